//! Processor time and memory of processes, from `/proc`.

/// User and system time of a process, of its running children, and of those that have ended, in seconds.
pub(super) fn family_cpu_s(pid: u32) -> f64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = processes.filter_map(|process| {
        let child = process.file_name().to_str()?.parse().ok()?;
        (times(child)?.parent == pid).then_some(child)
    });
    children.chain([pid]).filter_map(|pid| Some(times(pid)?.cpu_s)).sum()
}

/// What each process has used so far, this program's last.
pub(super) fn by_part(processes: &[(String, u32)]) -> Vec<(String, f64)> {
    let own = times(std::process::id()).map_or(0.0, |times| times.cpu_s);
    processes.iter().map(|(name, pid)| (name.clone(), family_cpu_s(*pid))).chain([(OWN.to_owned(), own)]).collect()
}

/// Name of this program in [`by_part`]: it makes the load, and runs the null chain.
pub(super) const OWN: &str = "bench";

/// What was used between two looks by each part, in seconds per thousand transactions, for a note. Parts that slept are left out.
pub(super) fn per_thousand(before: &[(String, f64)], after: &[(String, f64)], transactions: f64) -> String {
    let used = before.iter().zip(after).map(|((name, before), (_, after))| {
        (name.trim_start_matches("svc-"), (after - before) * 1_000.0 / transactions)
    });
    let said: Vec<String> =
        used.filter(|(_, cpu_s)| *cpu_s >= 0.01).map(|(name, cpu_s)| format!("{name} {cpu_s:.2}")).collect();
    said.join(", ")
}

/// Resident memory of a process.
pub(super) fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

struct Times {
    parent: u32,
    /// Of the process and of its children that have ended.
    cpu_s: f64,
}

fn times(pid: u32) -> Option<Times> {
    /// Linux counts processor time in hundredths of a second.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it begin with the state, the third of the line.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    #[allow(clippy::cast_precision_loss)] // ticks of a bench are far below 2^52
    let cpu_s = ticks as f64 / TICKS_PER_S;
    Some(Times { parent: fields.get(1)?.parse().ok()?, cpu_s })
}
