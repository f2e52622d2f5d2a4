//! What hostile clients do, each in a process of its own with the lowest priority, so that what is measured is the server.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, Line, PING,
    RST_STREAM, SETTINGS, framed, header_block, put_frame, put_frame_head, put_header,
};
use crate::load::{self, Call};
use crate::{ENTITIES, SINGLE, bombs, single, workload};

/// How many connections flood at a time.
const FLOODS: usize = 4;
/// Frames written at once.
const BATCH: usize = 64;
/// The last stream of a connection; then it takes a new one.
const LAST_STREAM: u32 = (1 << 31) - 1 - 2 * BATCH as u32;

/// What an attack did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Frames, calls or connections, as the attack has it.
    pub(crate) operations: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
}

type Attack = fn(SocketAddr, Instant) -> Done;

/// Every attack, with what it counts.
pub(crate) const ATTACKS: [(&str, &str, Attack); 17] = [
    (
        "rapid reset, HEADERS and RST_STREAM",
        "streams",
        rapid_reset,
    ),
    ("rapid reset of whole calls", "calls", reset_of_calls),
    ("window 0 and answers never read", "calls", slow_reader),
    ("1,000 idle connections", "connections", idle),
    ("1,000 silent TCP peers", "connections", silent),
    ("decode bomb: empty sub-messages", "calls", empty_messages),
    ("decode bomb: deep Struct", "calls", deep_struct),
    ("decode bomb: 5,000 context keys", "calls", many_fields),
    (
        "decode bomb: 30,000 unknown fields",
        "calls",
        unknown_fields,
    ),
    ("oversized frames", "frames", oversized_frames),
    ("oversized message announced", "calls", oversized_messages),
    ("CONTINUATION flood", "frames", continuations),
    ("header list too large", "calls", large_headers),
    ("DATA frames of one byte", "frames", tiny_data),
    ("PING flood", "frames", pings),
    ("SETTINGS flood", "frames", settings),
    ("one caller, 16 connections x 256 calls", "calls", noisy),
];

/// An attack under way.
pub(crate) struct Attacker(Child);

impl Attacker {
    /// Starts the attack of that name, for `duration`.
    pub(crate) fn start(name: &str, address: SocketAddr, duration: Duration) -> Self {
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--attack", name, &address.to_string()])
            .arg(duration.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the attacker starts");
        Self(child)
    }

    /// Waits for its end, and tells what it did.
    pub(crate) fn finish(self) -> Done {
        let output = self.0.wait_with_output().expect("the attacker ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        Done {
            operations: next(),
            closed: next(),
        }
    }
}

/// Attacks as the arguments after `--attack` say.
pub(crate) fn run_attacker(arguments: &[String]) {
    let (_, _, attack) = ATTACKS
        .iter()
        .find(|(name, ..)| *name == arguments[0])
        .expect("an attack");
    let address = arguments[1].parse().expect("an address");
    let millis = arguments[2].parse().expect("milliseconds");
    let done = attack(address, Instant::now() + Duration::from_millis(millis));
    println!("{} {}", done.operations, done.closed);
}

// ---------------------------------------------------------------- floods

/// Appends what a flood begins with.
type Begin = fn(&mut Vec<u8>);
/// Appends frames from a stream on, and tells how many operations they are and how many streams they take.
type Batch = fn(&mut Vec<u8>, u32) -> (u64, u32);

/// Floods over several connections, each with `begin` and then one `batch` after another.
fn flood(address: SocketAddr, until: Instant, begin: Begin, batch: Batch) -> Done {
    let one = move || {
        let mut done = Done::default();
        while Instant::now() < until {
            flood_once(address, until, (begin, batch), &mut done);
        }
        done
    };
    let threads: Vec<_> = (0..FLOODS).map(|_| std::thread::spawn(one)).collect();
    let mut total = Done::default();
    for thread in threads {
        let done = thread.join().expect("a flood ends");
        total.operations += done.operations;
        total.closed += done.closed;
    }
    total
}

/// Floods until the server closes the connection.
fn flood_once(
    address: SocketAddr,
    until: Instant,
    (begin, batch): (Begin, Batch),
    done: &mut Done,
) {
    let Ok(mut line) = Line::open(address, &[]) else {
        std::thread::sleep(Duration::from_millis(5));
        return;
    };
    let mut bytes = Vec::new();
    begin(&mut bytes);
    let mut stream = 3;
    while Instant::now() < until && stream < LAST_STREAM {
        let (operations, streams) = batch(&mut bytes, stream);
        if line.send(&bytes, until).is_err() {
            done.closed += u64::from(Instant::now() < until);
            return;
        }
        bytes.clear();
        done.operations += operations;
        stream += 2 * streams;
    }
}

fn nothing_first(_: &mut Vec<u8>) {}

/// Opens stream 1, for frames that need one.
fn open_stream(bytes: &mut Vec<u8>) {
    put_frame(bytes, HEADERS, END_HEADERS, 1, &header_block(SINGLE));
}

fn rapid_reset(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, first| {
        let block = header_block(SINGLE);
        for stream in (first..).step_by(2).take(BATCH) {
            put_frame(bytes, HEADERS, END_HEADERS, stream, &block);
            put_frame(bytes, RST_STREAM, 0, stream, &CANCEL);
        }
        (BATCH as u64, BATCH as u32)
    })
}

fn reset_of_calls(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, first| {
        let block = header_block(SINGLE);
        let message = framed(&workload::request(1, ENTITIES).encode_to_vec());
        for stream in (first..).step_by(2).take(BATCH) {
            put_frame(bytes, HEADERS, END_HEADERS, stream, &block);
            put_frame(bytes, DATA, END_STREAM, stream, &message);
            put_frame(bytes, RST_STREAM, 0, stream, &CANCEL);
        }
        (BATCH as u64, BATCH as u32)
    })
}

fn oversized_frames(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, open_stream, |bytes, _| {
        put_frame_head(bytes, (1 << 24) - 1, (DATA, 0), 1);
        bytes.resize(bytes.len() + (64 << 10), 0);
        (1, 0)
    })
}

fn oversized_messages(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, stream| {
        put_frame(bytes, HEADERS, END_HEADERS, stream, &header_block(SINGLE));
        let announced = [0, 0x7f, 0xff, 0xff, 0xff];
        put_frame(bytes, DATA, 0, stream, &announced);
        put_frame(bytes, RST_STREAM, 0, stream, &CANCEL);
        (1, 1)
    })
}

fn continuations(address: SocketAddr, until: Instant) -> Done {
    let begin = |bytes: &mut Vec<u8>| put_frame(bytes, HEADERS, 0, 1, &header_block(SINGLE));
    flood(address, until, begin, |bytes, _| {
        for _ in 0..BATCH {
            let mut block = Vec::new();
            put_header(&mut block, "x", "y");
            put_frame(bytes, CONTINUATION, 0, 1, &block);
        }
        (BATCH as u64, 0)
    })
}

fn large_headers(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, stream| {
        let mut block = header_block(SINGLE);
        // Just below what a frame may have, and above what a header list may.
        while block.len() < 16_000 {
            put_header(&mut block, "x-large", &"y".repeat(120));
        }
        put_frame(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &block);
        (1, 1)
    })
}

fn tiny_data(address: SocketAddr, until: Instant) -> Done {
    let begin = |bytes: &mut Vec<u8>| {
        open_stream(bytes);
        // A message of 60,000 bytes is announced, so that the server goes on waiting.
        put_frame(bytes, DATA, 0, 1, &[0, 0, 0, 0xea, 0x60]);
    };
    flood(address, until, begin, |bytes, _| {
        for _ in 0..BATCH {
            put_frame(bytes, DATA, 0, 1, &[0]);
        }
        (BATCH as u64, 0)
    })
}

fn pings(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, _| {
        for _ in 0..BATCH {
            put_frame(bytes, PING, 0, 0, &[7; 8]);
        }
        (BATCH as u64, 0)
    })
}

fn settings(address: SocketAddr, until: Instant) -> Done {
    flood(address, until, nothing_first, |bytes, number| {
        for _ in 0..BATCH {
            // Another window every time: what a server keeps of each stream changes with it.
            let size = 65_535 - number % 1_000;
            let mut payload = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
            payload.extend_from_slice(&size.to_be_bytes());
            put_frame(bytes, SETTINGS, 0, 0, &payload);
        }
        (BATCH as u64, 1)
    })
}

// ---------------------------------------------------------------- holding

/// Fifty connections that ask all they may, and never read.
fn slow_reader(address: SocketAddr, until: Instant) -> Done {
    const CONNECTIONS: usize = 50;
    const CALLS: u32 = 256;
    let mut bytes = Vec::new();
    let message = framed(&workload::request(1, ENTITIES).encode_to_vec());
    for stream in (1..).step_by(2).take(CALLS as usize) {
        put_frame(
            &mut bytes,
            HEADERS,
            END_HEADERS,
            stream,
            &header_block(SINGLE),
        );
        put_frame(&mut bytes, DATA, END_STREAM, stream, &message);
    }
    let mut done = Done::default();
    let mut lines = Vec::new();
    for _ in 0..CONNECTIONS {
        if let Ok(mut line) = Line::open(address, &[(INITIAL_WINDOW_SIZE, 0)]) {
            let patience = Instant::now() + Duration::from_millis(200);
            line.send_blindly(&bytes, patience.min(until)).ok();
            done.operations += u64::from(CALLS);
            lines.push(line);
        }
    }
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    done
}

fn idle(address: SocketAddr, until: Instant) -> Done {
    hold(until, || Line::open(address, &[]))
}

fn silent(address: SocketAddr, until: Instant) -> Done {
    hold(until, || Line::connect(address))
}

/// Keeps 1,000 connections, and replaces those that the server closes.
fn hold(until: Instant, open: impl Fn() -> std::io::Result<Line>) -> Done {
    const CONNECTIONS: usize = 1_000;
    let mut done = Done::default();
    let mut lines: Vec<Line> = Vec::new();
    while Instant::now() < until {
        while lines.len() < CONNECTIONS && Instant::now() < until {
            let Ok(line) = open() else {
                break;
            };
            lines.push(line);
            done.operations += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
        let before = lines.len();
        lines.retain_mut(|line| line.discard().is_ok());
        done.closed += (before - lines.len()) as u64;
    }
    done
}

// ---------------------------------------------------------------- calls that cost more than they should

fn empty_messages(address: SocketAddr, until: Instant) -> Done {
    calls(address, until, vec![bombs::empty_messages()], (2, 8))
}

fn deep_struct(address: SocketAddr, until: Instant) -> Done {
    calls(address, until, vec![bombs::deep_struct()], (2, 8))
}

fn many_fields(address: SocketAddr, until: Instant) -> Done {
    calls(address, until, vec![bombs::many_fields()], (2, 8))
}

fn unknown_fields(address: SocketAddr, until: Instant) -> Done {
    calls(address, until, vec![bombs::unknown_fields()], (2, 8))
}

/// Nothing wrong with its calls but their number.
fn noisy(address: SocketAddr, until: Instant) -> Done {
    let bodies = single((0..400).map(|number| number * 4 + 1)).bodies;
    calls(address, until, bodies, (16, 256))
}

fn calls(
    address: SocketAddr,
    until: Instant,
    bodies: Vec<Vec<u8>>,
    (connections, in_flight): (usize, usize),
) -> Done {
    let call = Call {
        path: SINGLE.to_owned(),
        // Somebody else than the well-behaved clients.
        authority: "hostile".to_owned(),
        bodies,
        login: Some("development:hostile"),
        tls: None,
    };
    let mut done = Done::default();
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        match load::closed_loop(address, &call, connections, in_flight, Duration::ZERO, left) {
            Ok(report) => done.operations += report.calls,
            Err(_) => done.closed += 1,
        }
    }
    done
}
