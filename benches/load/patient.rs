//! Two more loads: one call at a time on a schedule, by a thread that sleeps; and more calls than a server can take.

use super::*;

/// Starts a call every `period` on each of `connections` connections, and waits for each with a thread that sleeps.
///
/// Latency counts from when a call was due, so that one that takes longer than `period` makes the next ones late too. It costs
/// hardly any processor time, which is what well-behaved clients beside hostile ones should cost.
///
/// # Errors
///
/// When a connection fails or is closed, and when a call has no answer for ten seconds.
pub fn one_at_a_time(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    period: Duration,
    duration: Duration,
) -> io::Result<Report> {
    let lines = connect(addr, call, connections, false)?;
    let begin = Instant::now();
    let window = begin..begin + duration;
    let mut total = Tally::new(window.clone(), true);
    thread::scope(|scope| {
        let start = |(index, line)| {
            let tally = Tally::new(window.clone(), true);
            // Spread over the period.
            let first = begin + period * index as u32 / connections as u32;
            scope.spawn(move || call_on_schedule(line, first, period, tally))
        };
        let threads: Vec<_> = lines.into_iter().enumerate().map(start).collect();
        for thread in threads {
            total.add(&thread.join().expect("a load thread panicked")?);
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(total.report)
}

fn call_on_schedule(
    mut line: Connection,
    first: Instant,
    period: Duration,
    mut tally: Tally,
) -> io::Result<Tally> {
    let mut due = first;
    while due < tally.window.end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        line.submit(due);
        while line.outstanding() > 0 {
            line.exchange(&mut tally)?;
        }
        due += period;
    }
    Ok(tally)
}

/// What came of more calls than a server can take.
pub struct Overload {
    /// Calls that were sent, and what came of them.
    pub sent: Report,
    /// Calls that were due, the ones not sent included.
    pub offered: u64,
    /// Calls that could not be sent in time, because the server let no more streams begin: what HTTP/2 keeps with its clients.
    pub given_up: u64,
}

/// Starts `calls_per_second`, spread over `connections` connections, however slow the server; a call that cannot be sent within
/// `patience` is given up.
///
/// Each connection has a thread that blocks in `read` and sends no more than the server lets it, so it suits loads that a server
/// cannot take, and no others.
///
/// # Errors
///
/// When a connection fails or is closed, and when calls are open but none ends for ten seconds.
#[expect(
    clippy::too_many_arguments,
    reason = "a load is no more than its numbers"
)]
pub fn overload(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    calls_per_second: u64,
    patience: Duration,
    duration: Duration,
) -> io::Result<Overload> {
    let lines = connect(addr, call, connections, false)?;
    let begin = Instant::now();
    let window = begin..begin + duration;
    let schedule = Schedule {
        begin,
        per_second: calls_per_second / connections as u64,
        patience,
    };
    let mut total = Overload {
        sent: Tally::new(window.clone(), true).report,
        offered: calls_per_second * duration.as_millis() as u64 / 1_000,
        given_up: 0,
    };
    let mut sum = Tally::new(window.clone(), true);
    thread::scope(|scope| {
        let start = |line| {
            let tally = Tally::new(window.clone(), true);
            scope.spawn(|| schedule.press(line, tally))
        };
        let threads: Vec<_> = lines.into_iter().map(start).collect();
        for thread in threads {
            let (tally, given_up) = thread.join().expect("a load thread panicked")?;
            sum.add(&tally);
            total.given_up += given_up;
        }
        Ok::<_, io::Error>(())
    })?;
    total.sent = sum.report;
    Ok(total)
}

/// When the calls of one connection are due.
struct Schedule {
    begin: Instant,
    per_second: u64,
    patience: Duration,
}

impl Schedule {
    /// How many calls were due before `time`.
    fn due_before(&self, time: Instant) -> u64 {
        let nanos = time.saturating_duration_since(self.begin).as_nanos();
        (nanos * u128::from(self.per_second) / 1_000_000_000) as u64
    }

    /// Sends what may be sent; answers how many calls were given up.
    fn press(&self, mut line: Connection, mut tally: Tally) -> io::Result<(Tally, u64)> {
        let (mut next, mut given_up) = (0, 0);
        loop {
            let now = Instant::now();
            tally.read_cpu(now);
            let until = now.min(tally.window.end);
            let oldest = self.due_before(until.checked_sub(self.patience).unwrap_or(self.begin));
            given_up += oldest.saturating_sub(next);
            next = next.max(oldest);
            // The server's settings tell how many; they come with the first exchange.
            let most = if line.settled { line.max_streams } else { 1 };
            let due = self.due_before(until);
            while next < due && line.outstanding() < most {
                line.submit(scheduled_at(self.begin, next, self.per_second));
                next += 1;
            }
            if now >= tally.window.end && line.outstanding() == 0 {
                return Ok((tally, given_up + due.saturating_sub(next)));
            }
            line.exchange(&mut tally)?;
        }
    }
}
