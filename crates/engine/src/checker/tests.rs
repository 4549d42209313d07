//! What decisions do, and what policies hold.

use super::*;
use proptest::prelude::*;

const BOND: Address = Address::repeat_byte(1);
const EURO: Address = Address::repeat_byte(2);

fn policy(kinds: &[&str], asset: Option<Address>, threshold: Option<u64>) -> Policy {
    Policy {
        policy_id: "p".into(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        except_kinds: vec!["asset.pause".into()],
        asset,
        threshold: threshold.map(U256::from),
        checkers: 1,
        time_limit_s: 3_600,
        unowned_makers: false,
    }
}

fn standing(checkers: u32, decided: &[(&str, bool)]) -> Standing {
    Standing {
        state: OperationState::AwaitingChecker,
        checkers,
        payload_hash: B256::repeat_byte(7),
        expired: false,
        decided: decided.iter().map(|(person, approved)| ((*person).to_owned(), *approved)).collect(),
        approvals: decided
            .iter()
            .filter(|(_, approved)| *approved)
            .map(|(person, _)| ((*person).to_owned(), BTreeSet::new()))
            .collect(),
    }
}

fn decision(principal: &str, person: &str, approved: bool) -> Decision {
    Decision {
        principal: principal.into(),
        person: person.into(),
        hands: BTreeSet::new(),
        makers: ["maker-key", "maker"].map(str::to_owned).into(),
        makers_hands: BTreeSet::new(),
        approved,
        reason: "seen".into(),
        payload_hash: B256::repeat_byte(7),
    }
}

#[test]
fn a_policy_holds_by_kind_asset_and_amount() {
    let mint = |units: u64| Amounts::of(BOND, U256::from(units));
    let by_kind = policy(&["asset.mint"], None, None);
    assert!(by_kind.holds("asset.mint", &Amounts::default()));
    assert!(!by_kind.holds("asset.burn", &mint(1)));
    let any = policy(&[], None, None);
    assert!(any.holds("asset.burn", &Amounts::default()));
    assert!(!any.holds("asset.pause", &Amounts::about(BOND)), "what stops harm is exempt");
    let above = policy(&[], None, Some(100));
    assert!(above.holds("asset.mint", &mint(100)) && !above.holds("asset.mint", &mint(99)));
    assert!(!above.holds("asset.grant_role", &Amounts::about(BOND)), "nothing is moved");
    let of_euro = policy(&[], Some(EURO), Some(100));
    assert!(!of_euro.holds("x", &mint(1_000)) && of_euro.holds("x", &mint(1).and(EURO, U256::from(100))));
    let about = policy(&[], Some(BOND), None);
    assert!(about.holds("asset.grant_role", &Amounts::about(BOND)) && !about.holds("x", &Amounts::about(EURO)));
}

#[test]
fn amounts_of_one_asset_add_up_so_that_a_batch_does_not_slip_through() {
    let batch = (0..10).fold(Amounts::default(), |all, _| all.and(BOND, U256::from(10)));
    assert!(policy(&[], None, Some(100)).holds("asset.batch_transfer", &batch));
    let huge = Amounts::of(BOND, U256::MAX).and(BOND, U256::from(1));
    assert_eq!(huge.iter().next(), Some((BOND, U256::MAX)), "a sum that does not fit is as much as there is");
}

#[test]
fn another_person_lets_it_begin_and_the_maker_does_not() {
    let one = standing(1, &[]);
    assert_eq!(one.decide(&decision("checker", "checker", true)).unwrap(), Next::Begins);
    for (principal, person) in [("maker", "maker"), ("maker-key", "maker"), ("other-key", "maker"), ("maker-key", "x")]
    {
        let refused = one.decide(&decision(principal, person, true)).unwrap_err();
        assert!(matches!(refused, CheckError::Maker), "{principal} of {person}: {refused}");
    }
    assert_eq!(one.decide(&decision("maker", "maker", false)).unwrap(), Next::Ends, "who asked may take it back");
}

#[test]
fn each_person_counts_once() {
    let two = standing(2, &[]);
    assert_eq!(two.decide(&decision("a", "ann", true)).unwrap(), Next::Waits(1));
    let after = standing(2, &[("ann", true)]);
    assert_eq!(after.decide(&decision("a-key", "ann", true)).unwrap(), Next::Nothing, "by whichever key");
    assert!(matches!(after.decide(&decision("a", "ann", false)), Err(CheckError::Decided)));
    assert_eq!(after.decide(&decision("b", "bob", true)).unwrap(), Next::Begins);
    assert_eq!(after.decide(&decision("b", "bob", false)).unwrap(), Next::Ends);
}

fn by_hands(principal: &str, hands: &[&str]) -> Decision {
    Decision { hands: hands.iter().map(|hand| (*hand).to_owned()).collect(), ..decision(principal, principal, true) }
}

#[test]
fn who_made_the_credential_is_one_with_who_shows_it() {
    let one = standing(1, &[]);
    let refused = one.decide(&by_hands("ann", &["admin", "maker"])).unwrap_err();
    assert!(matches!(&refused, CheckError::MakersHand(hand) if hand == "maker"), "{refused}");
    assert_eq!(
        one.decide(&by_hands("ann", &["admin", "ann"])).unwrap(),
        Next::Begins,
        "the administrator asked for nothing"
    );
    let made = |who: &str| {
        let makers_hands = BTreeSet::from(["admin".to_owned()]);
        one.decide(&Decision { makers_hands, ..by_hands(who, &["admin"]) })
    };
    assert!(
        matches!(made("admin").unwrap_err(), CheckError::MakersHand(hand) if hand == "admin"),
        "he may have asked himself"
    );
    assert_eq!(made("bob").unwrap(), Next::Begins);
    let no = Decision { approved: false, ..by_hands("ann", &["maker"]) };
    assert_eq!(one.decide(&no).unwrap(), Next::Ends, "who asked may take it back, by whichever key");
}

#[test]
fn two_credentials_of_one_hand_are_one_person() {
    let after = |hands: &[&str]| {
        let mut two = standing(2, &[("ann", true)]);
        two.approvals.insert("ann".into(), hands.iter().map(|hand| (*hand).to_owned()).collect());
        two
    };
    let hand = |standing: &Standing, decision: &Decision| match standing.decide(decision) {
        Err(CheckError::CheckersHand(hand)) => Some(hand),
        other => {
            assert_eq!(other.unwrap(), Next::Begins);
            None
        }
    };
    assert_eq!(hand(&after(&[]), &by_hands("bob", &["ann"])).as_deref(), Some("ann"), "ann has made bob's");
    assert_eq!(hand(&after(&["bob"]), &by_hands("bob", &[])).as_deref(), Some("bob"), "bob has made ann's");
    assert_eq!(hand(&after(&["admin"]), &by_hands("bob", &["admin"])), None, "the administrator has approved nothing");
    assert_eq!(hand(&after(&["ann"]), &by_hands("bob", &["bob"])), None, "each has made its own");
}

#[test]
fn what_was_not_seen_is_not_decided_nor_what_is_over() {
    let mut other = decision("a", "ann", true);
    other.payload_hash = B256::repeat_byte(8);
    assert!(matches!(standing(1, &[]).decide(&other), Err(CheckError::OtherPayload)));
    let mut late = standing(1, &[]);
    late.expired = true;
    assert!(matches!(late.decide(&decision("a", "ann", true)), Err(CheckError::Expired)));
    for state in [OperationState::Running, OperationState::Completed, OperationState::Failed, OperationState::Cancelled]
    {
        let mut over = standing(1, &[("ann", true)]);
        over.state = state;
        assert!(matches!(over.decide(&decision("b", "bob", true)), Err(CheckError::NotHeld(_))));
        assert_eq!(over.decide(&decision("a", "ann", true)).unwrap(), Next::Nothing, "a repeat hears the same");
    }
}

#[test]
fn a_secret_is_shown_to_nobody() {
    let order =
        serde_json::json!({"salt": 1, "command": {"secret": "0x77", "legs": [{"secret": "0x78"}], "sender": "0x1"}});
    let shown = readable(&order);
    assert_eq!(shown, serde_json::json!({"secret": "***", "legs": [{"secret": "***"}], "sender": "0x1"}));
    assert_eq!(readable(&serde_json::json!({"a": 1})), serde_json::json!({"a": 1}));
}

proptest! {
    /// Whatever is decided in whatever order: it never begins with fewer persons than the policies take, and never by a maker.
    #[test]
    fn nothing_begins_without_enough_others(checkers in 1_u32..4, told in proptest::collection::vec((0_usize..5, any::<bool>()), 0..20)) {
        let people = ["maker", "ann", "bob", "cid", "dot"];
        let mut now = standing(checkers, &[]);
        for (who, approved) in told {
            let decision = decision(people[who], people[who], approved);
            match now.decide(&decision) {
                Ok(Next::Waits(_)) => { now.decided.insert(decision.person, true); }
                Ok(Next::Begins) => {
                    now.decided.insert(decision.person, true);
                    now.state = OperationState::Running;
                    prop_assert!(now.decided.values().filter(|approved| **approved).count() >= checkers as usize);
                    prop_assert!(!now.decided.contains_key("maker"));
                }
                Ok(Next::Ends) => {
                    now.decided.insert(decision.person, false);
                    now.state = OperationState::Failed;
                }
                Ok(Next::Nothing) | Err(_) => {}
            }
        }
    }
}
