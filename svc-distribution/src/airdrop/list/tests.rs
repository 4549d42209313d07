use super::*;

fn account(number: u32) -> Address {
    let mut bytes = [0x11; 20];
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    Address::from(bytes)
}

fn line(number: u32, amount: &str) -> String {
    format!("{},{amount}\n", account(number).to_checksum(None))
}

fn read(text: &str, announced: u64) -> Result<Recipients, ListError> {
    let mut reader = ListReader::new(Format::Csv, 2);
    reader.push(text.as_bytes())?;
    reader.finish(Announced(Some(announced)), false)
}

fn problems(error: ListError) -> Vec<(u32, &'static str)> {
    match error {
        ListError::BadLines { first, .. } => first.iter().map(|bad| (bad.line, bad.problem.code())).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_list_is_read_however_it_is_cut() {
    let text = format!("\u{feff}account, amount\r\n{}\n{}{}", line(1, "1"), line(2, "0.25"), line(3, "7.5").trim_end());
    let whole = read(&text, 3).unwrap();
    assert_eq!((whole.rows.len(), whole.total, whole.lines.clone()), (3, 875, vec![2, 4, 5]));
    for size in 1..text.len() {
        let mut reader = ListReader::new(Format::Csv, 2);
        text.as_bytes().chunks(size).for_each(|piece| reader.push(piece).unwrap());
        assert_eq!(reader.finish(Announced(Some(3)), false).unwrap(), whole, "cut at {size}");
    }
}

#[test]
fn every_bad_line_is_told_with_its_number_and_nothing_is_taken() {
    let text = [
        line(1, "1"),
        line(1, "2"),
        line(2, "0"),
        line(3, "1.001"),
        "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed,1\n".to_owned(),
        "nobody,1\n".to_owned(),
        line(4, "-1"),
        "0x0000000000000000000000000000000000000000,1\n".to_owned(),
        "just a remark\n".to_owned(),
        format!("{},1\n", "9".repeat(600)),
        line(6, &u128::MAX.to_string()),
    ]
    .concat();
    let expected = [
        (2, "DUPLICATE"),
        (3, "ZERO_AMOUNT"),
        (4, "TOO_PRECISE"),
        (5, "CHECKSUM"),
        (6, "ADDRESS"),
        (7, "AMOUNT"),
        (8, "ZERO_ADDRESS"),
        (9, "SHAPE"),
        (10, "TOO_LONG"),
        (11, "TOO_MUCH"),
    ];
    assert_eq!(problems(read(&text, 11).unwrap_err()), expected);
    let mut reader = ListReader::new(Format::Csv, 2);
    reader.push(text.as_bytes()).unwrap();
    let taken = reader.finish(Announced(Some(11)), true).unwrap();
    assert_eq!((taken.rows.len(), taken.left_out, taken.total), (1, 10, 100));
    assert_eq!(taken.bad_lines[0].problem, Problem::Duplicate { first: 1 });
}

#[test]
fn a_list_that_was_cut_off_is_not_taken() {
    let text = format!("{}{}", line(1, "1"), line(2, "1"));
    for announced in [1, 3] {
        let error = read(&text, announced).unwrap_err();
        assert_eq!(error, ListError::CutOff { declared: Announced(Some(announced)), read: 2, line: 2 });
    }
    let nothing = read("", 3).unwrap_err();
    assert_eq!(nothing, ListError::CutOff { declared: Announced(Some(3)), read: 0, line: 1 }, "lines begin at one");
    let mut reader = ListReader::new(Format::Csv, 2);
    reader.push(text.as_bytes()).unwrap();
    assert_eq!(reader.reached(), 2);
    reader.push(b"0x").unwrap();
    assert_eq!(reader.reached(), 3, "a line that has begun");
    let mut reader = ListReader::new(Format::Csv, 2);
    reader.push(text.as_bytes()).unwrap();
    let error = reader.finish(Announced(None), true).unwrap_err();
    assert_eq!(error.to_string(), "the list was cut off: 2 recipients arrived, an end that never came were announced");
}

#[test]
fn one_recipient_too_many_ends_the_reading_at_once() {
    let mut reader = ListReader::with_max(Format::Csv, 2, 2);
    reader.push(format!("{}{}", line(1, "1"), line(2, "1")).as_bytes()).unwrap();
    assert_eq!(reader.push(line(3, "1").as_bytes()), Err(ListError::TooMany { max: 2, line: 3 }));
    assert_eq!(read("\n\n", 0), Err(ListError::Empty));
}

#[test]
fn the_sum_stays_within_what_the_contract_counts() {
    let most = u128::MAX / 100;
    let text = format!("{}{}", line(1, &most.to_string()), line(2, "1"));
    assert_eq!(problems(read(&text, 2).unwrap_err()), [(2, "TOO_MUCH")]);
}

#[test]
fn a_line_that_never_ends_takes_no_memory() {
    let mut reader = ListReader::new(Format::JsonLines, 2);
    for _ in 0..100 {
        reader.push(&[b'x'; 10_000]).unwrap();
    }
    assert!(reader.partial.len() <= MAX_LINE);
    assert_eq!(problems(reader.finish(Announced(Some(1)), false).unwrap_err()), [(1, "TOO_LONG")]);
}

#[test]
fn rows_that_turn_out_to_be_bad_are_told_in_the_order_of_the_lines() {
    let text = format!("{}{}{}", line(1, "1"), line(2, "2"), line(3, "3"));
    let not_verified = || (1, Problem::NotVerified { reason: "NOT_REGISTERED".into() });
    let error = read(&text, 3).unwrap().reject(vec![not_verified()], false).unwrap_err();
    assert_eq!(problems(error), [(2, "NOT_VERIFIED")]);
    let mut list = read(&text, 3).unwrap();
    list.reject(vec![not_verified()], true).unwrap();
    assert_eq!((list.rows.len(), list.total, list.lines, list.left_out), (2, 400, vec![1, 3], 1));
}

#[test]
fn the_digest_is_of_what_the_list_says() {
    let csv = read(&format!("{}{}", line(1, "1"), line(2, "2.50")), 2).unwrap();
    let mut reader = ListReader::new(Format::JsonLines, 2);
    for (number, amount) in [(1, "1.00"), (2, "2.5")] {
        reader
            .push(format!("{{\"account\":\"{:#x}\",\"amount\":\"{amount}\"}}\n", account(number)).as_bytes())
            .unwrap();
    }
    let json = reader.finish(Announced(Some(2)), false).unwrap();
    assert_eq!(csv.digest(), json.digest());
    let other = read(&format!("{}{}", line(2, "2.50"), line(1, "1")), 2).unwrap();
    assert_ne!(csv.digest(), other.digest(), "the order counts: it is the tree's");
}
