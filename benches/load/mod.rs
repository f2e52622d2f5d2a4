//! A gRPC load generator that costs little next to the server it measures.
//!
//! It speaks as much HTTP/2 (RFC 9113) as unary calls need, in clear text over a [`TcpStream`]. Two decisions make a call
//! cheap:
//!
//! * Requests are byte strings prepared once per connection. Their header block is HPACK (RFC 7541) without dynamic table and
//!   Huffman code, so it is the same for every stream, and only the stream id is written into the copy that is sent.
//! * The server is asked for a header table of size 0. Its header blocks are then self-contained, so response headers need no
//!   decoding and trailers no more than a search for `grpc-status`.
//!
//! A call succeeds when it brings a message and trailers with `grpc-status` 0. Everything else, trailers that are not
//! understood included, is a failure. What gRPC servers hardly send (padding, priorities, header blocks above 16 KiB) is an
//! error.

#![expect(
    clippy::disallowed_methods,
    clippy::pedantic,
    elided_lifetimes_in_paths,
    unreachable_pub,
    reason = "its threads measure real time, without a runtime"
)]
// Each bench uses its part of this module.
#![allow(dead_code, unused_imports, reason = "each bench uses its part")]

mod patient;
mod socket;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

pub use patient::{Overload, one_at_a_time, overload};
pub use socket::ClientTls;

use socket::Socket;

/// One unary gRPC call, prepared: every call sends the same bytes, or the given bodies in turn.
pub struct Call {
    /// The method, as in `/countersign.v1.AuthorizationService/Authorize`: 126 bytes at most.
    pub path: String,
    /// The `:authority` header, as in `localhost:50051`: 126 bytes at most.
    pub authority: String,
    /// Encoded request messages, without the five bytes of gRPC framing. Every connection goes round the list, each from
    /// another place.
    pub bodies: Vec<Vec<u8>>,
    /// The development login to show, as in `development:crowd`: what tells callers apart on one machine. None if there is none.
    pub login: Option<&'static str>,
    /// How to encrypt; not at all if there is none.
    pub tls: Option<ClientTls>,
}

/// What a run measured. The warm-up is not part of it.
pub struct Report {
    /// Calls that came to an end, well or not.
    pub calls: u64,
    /// Those of `calls` without a message and `grpc-status` 0: error statuses, reset streams, calls that a GOAWAY left
    /// unanswered.
    pub failures: u64,
    /// Time in which `calls` ended, so that `calls / elapsed` is the rate reached.
    pub elapsed: Duration,
    /// Nanoseconds from start to end of the calls that succeeded.
    pub latency: Histogram<u64>,
    /// Processor time of the load threads within `duration`; zero where `/proc` does not tell.
    pub client_cpu: Duration,
    /// Bytes read from the sockets within `duration`, framing included.
    pub bytes_received: u64,
}

/// Keeps `in_flight` calls open on each of `connections` connections for `duration` after `warm_up`.
///
/// Each connection has a thread that blocks in `read`, where it takes nothing from the server. The report holds the calls that
/// ended within `duration`. Where the server's limit of concurrent streams is below `in_flight`, the calls above it wait here,
/// and the wait is part of their latency.
///
/// # Errors
///
/// When a connection fails or is closed, and when calls are open but none ends for ten seconds.
#[expect(
    clippy::too_many_arguments,
    reason = "a load is no more than its numbers"
)]
pub fn closed_loop(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    in_flight: usize,
    warm_up: Duration,
    duration: Duration,
) -> io::Result<Report> {
    require(in_flight > 0, "in_flight must be positive")?;
    let lines = connect(addr, call, connections, false)?;
    let from = Instant::now() + warm_up;
    let window = from..from + duration;
    let mut total = Tally::new(window.clone(), false);
    thread::scope(|scope| {
        let start = |line| {
            let tally = Tally::new(window.clone(), false);
            scope.spawn(move || keep_in_flight(line, in_flight, tally))
        };
        let threads: Vec<_> = lines.into_iter().map(start).collect();
        for thread in threads {
            total.add(&thread.join().expect("a load thread panicked")?);
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(total.report)
}

fn keep_in_flight(mut line: Connection, in_flight: usize, mut tally: Tally) -> io::Result<Tally> {
    loop {
        let now = Instant::now();
        tally.read_cpu(now);
        if now < tally.window.end {
            while line.outstanding() < in_flight {
                line.submit(now);
            }
        } else if line.outstanding() == 0 {
            return Ok(tally);
        }
        line.exchange(&mut tally)?;
    }
}

/// Starts `calls_per_second` on a fixed schedule, on each of `connections` connections in turn.
///
/// Latency counts from the scheduled start, so that a server that stalls is charged for the calls it delayed (no coordinated
/// omission). The report holds the calls scheduled within `duration`; it waits for the last of them, and that wait is part of
/// `elapsed`.
///
/// One thread paces, sends and receives. It polls while a call is open and sleeps only when none is and the next is far off:
/// starts and ends are accurate to microseconds, but `client_cpu` is mostly polling, and the server should have another
/// processor to itself.
///
/// # Errors
///
/// When a connection fails or is closed, when calls are open but none ends for ten seconds, and when more than 100,000 calls
/// are outstanding.
#[expect(
    clippy::too_many_arguments,
    reason = "a load is no more than its numbers"
)]
pub fn constant_rate(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    calls_per_second: u64,
    warm_up: Duration,
    duration: Duration,
) -> io::Result<Report> {
    require(calls_per_second > 0, "calls_per_second must be positive")?;
    let mut lines = connect(addr, call, connections, true)?;
    let begin = Instant::now();
    let from = begin + warm_up;
    let end = from + duration;
    let mut tally = Tally::new(from..end, true);
    let due = |call| scheduled_at(begin, call, calls_per_second);
    let mut calls = (0..)
        .map(|call| (due(call), call as usize % connections))
        .peekable();
    loop {
        let now = Instant::now();
        tally.read_cpu(now);
        while let Some((due, line)) = calls.next_if(|&(due, _)| due <= now && due < end) {
            lines[line].submit(due);
        }
        let outstanding: usize = lines.iter().map(Connection::outstanding).sum();
        if outstanding > MOST_OUTSTANDING {
            let what = format!("{outstanding} calls outstanding at {calls_per_second} calls/s");
            return Err(io::Error::other(what));
        }
        if outstanding == 0 && now >= end {
            tally.report.elapsed = now - from;
            return Ok(tally.report);
        }
        for line in &mut lines {
            // While there are answers to wait for, polling an idle connection would delay them.
            if line.outstanding() > 0 || outstanding == 0 {
                line.exchange(&mut tally)?;
            }
        }
        let next = calls.peek().map_or(end, |&(due, _)| due.min(end));
        let pause = next.saturating_duration_since(Instant::now());
        if outstanding == 0 && pause > SPIN_BELOW {
            thread::sleep((pause - SPIN_BELOW).min(LONGEST_SLEEP));
        } else {
            thread::yield_now();
        }
    }
}

/// Sends the call with body number `body` and returns the response message, without its gRPC framing, and the `grpc-status`:
/// for verifying what a server answers before measuring it.
///
/// # Errors
///
/// When the connection fails, and when the answer has no `grpc-status` or is not one message.
pub fn one(addr: SocketAddr, call: &Call, body: usize) -> io::Result<(Vec<u8>, u32)> {
    let mut line = Connection::open(addr, call, body, false)?;
    let now = Instant::now();
    let mut tally = Tally::new(now..now + 2 * PATIENCE, false);
    tally.message = Some(Vec::new());
    line.submit(now);
    while line.outstanding() > 0 {
        line.exchange(&mut tally)?;
    }
    let no_status = || invalid("the answer has no grpc-status");
    let status = tally.status.ok_or_else(no_status)?;
    let framed = tally.message.unwrap_or_default();
    match framed.split_first_chunk::<5>() {
        None if framed.is_empty() => Ok((framed, status)),
        Some(([0, length @ ..], message)) if number(length)? as usize == message.len() => {
            Ok((message.to_vec(), status))
        }
        _ => Err(invalid("the answer is not one uncompressed gRPC message")),
    }
}

/// With more calls outstanding than this, the server has lost the race against the schedule.
const MOST_OUTSTANDING: usize = 100_000;
/// A sleep may end this much late, so that much of a pause is spun.
const SPIN_BELOW: Duration = Duration::from_micros(200);
/// An idle connection still has to answer PING, so no sleep is longer.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// A connection that owes answers and brings none for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a blocking read or write may last before the thread looks at the clock again.
const TICK: Duration = Duration::from_millis(20);

fn scheduled_at(begin: Instant, call: u64, per_second: u64) -> Instant {
    let fraction = call % per_second * 1_000_000_000 / per_second;
    begin + Duration::from_secs(call / per_second) + Duration::from_nanos(fraction)
}

fn connect(
    addr: SocketAddr,
    call: &Call,
    connections: usize,
    polled: bool,
) -> io::Result<Vec<Connection<'_>>> {
    require(connections > 0, "connections must be positive")?;
    let first_body = |index| index * call.bodies.len() / connections;
    let open = |index| Connection::open(addr, call, first_body(index), polled);
    (0..connections).map(open).collect()
}

fn require(condition: bool, what: &str) -> io::Result<()> {
    if condition {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, what))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Processor time of the calling thread, as of the kernel's last look at it.
fn thread_cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_cpu = schedstat.split_ascii_whitespace().next();
    Duration::from_nanos(on_cpu.and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The figures of a thread.
struct Tally {
    window: Range<Instant>,
    /// Whether a call's start, and not its end, has to lie in the window for it to be counted.
    by_start: bool,
    report: Report,
    /// The thread's processor time when the window began.
    cpu_before: Option<Duration>,
    /// Status of the call that ended last.
    status: Option<u32>,
    /// Collects response messages, with their framing, where that is wanted.
    message: Option<Vec<u8>>,
    /// When the frames that are being looked at came.
    now: Instant,
}

impl Tally {
    fn new(window: Range<Instant>, by_start: bool) -> Self {
        let report = Report {
            calls: 0,
            failures: 0,
            elapsed: window.end - window.start,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds"),
            client_cpu: Duration::ZERO,
            bytes_received: 0,
        };
        Self {
            now: window.start,
            window,
            by_start,
            report,
            cpu_before: None,
            status: None,
            message: None,
        }
    }

    fn record(&mut self, started: Instant, status: Option<u32>, has_message: bool) {
        self.status = status;
        let decisive = if self.by_start { started } else { self.now };
        if !self.window.contains(&decisive) {
            return;
        }
        self.report.calls += 1;
        if status == Some(0) && has_message {
            let latency = self.now.saturating_duration_since(started);
            let nanos = latency.as_nanos() as u64;
            self.report.latency.saturating_record(nanos);
        } else {
            self.report.failures += 1;
        }
    }

    /// Reads the thread's processor time at the edges of the window.
    fn read_cpu(&mut self, now: Instant) {
        if now < self.window.start {
            return;
        }
        match self.cpu_before {
            None => self.cpu_before = Some(thread_cpu()),
            Some(before) if now >= self.window.end && self.report.client_cpu.is_zero() => {
                self.report.client_cpu = thread_cpu().saturating_sub(before);
            }
            Some(_) => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.report.calls += other.report.calls;
        self.report.failures += other.report.failures;
        self.report.client_cpu += other.report.client_cpu;
        self.report.bytes_received += other.report.bytes_received;
        let added = self.report.latency.add(&other.report.latency);
        added.expect("all have the same bounds");
    }
}

// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

// Flags of frames.
const END_STREAM: u8 = 0x01;
const ACK: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED_OR_PRIORITY: u8 = 0x28;

// Settings.
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The highest stream id, and the largest window. Ids above that need another connection.
const MAX_31_BITS: u32 = (1 << 31) - 1;
/// The largest payload that every peer accepts, and the largest that we accept. A server may allow larger ones, which would
/// only cut a large body less often.
const MAX_FRAME: usize = 16_384;
/// Windows before settings and updates change them.
const DEFAULT_WINDOW: u32 = 65_535;
/// What the server may send on a connection until it is given more.
const OUR_WINDOW: u32 = 16 << 20;
/// Bytes asked of the socket at once.
const READ_BUFFER: usize = 256 << 10;

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What a client says first: the magic string, its settings, and a larger connection window.
fn preface() -> Vec<u8> {
    let stream_window = (INITIAL_WINDOW_SIZE, MAX_31_BITS);
    let mut settings = Vec::new();
    for (name, value) in [(HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), stream_window] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put_frame(&mut out, SETTINGS, 0, 0, &settings);
    let more = OUR_WINDOW - DEFAULT_WINDOW;
    put_frame(&mut out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    out
}

/// A frame that was received.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `input` and what follows it, or nothing if it is not complete.
    fn split(input: &'a [u8]) -> io::Result<Option<(Self, &'a [u8])>> {
        let Some((head, rest)) = input.split_first_chunk() else {
            return Ok(None);
        };
        let &[l2, l1, l0, kind, flags, s3, s2, s1, s0] = head;
        let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        if length > MAX_FRAME {
            return Err(invalid("not HTTP/2, or too large a frame"));
        }
        let stream = u32::from_be_bytes([s3, s2, s1, s0]) & MAX_31_BITS;
        let frame = |payload| Self {
            kind,
            flags,
            stream,
            payload,
        };
        Ok(rest
            .split_at_checked(length)
            .map(|(payload, rest)| (frame(payload), rest)))
    }

    fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// The frames of a prepared request.
struct Request {
    bytes: Vec<u8>,
    /// Where the stream id is written.
    stream_ids: Vec<usize>,
    /// Bytes that it takes from the server's windows.
    data: i64,
}

impl Request {
    fn new(header_block: &[u8], message: &[u8]) -> Self {
        let length = (message.len() as u32).to_be_bytes();
        let framed = [&[0], &length[..], message].concat();
        let (mut bytes, mut stream_ids) = (Vec::new(), Vec::new());
        let mut push = |kind, flags, payload| {
            stream_ids.push(bytes.len() + 5);
            put_frame(&mut bytes, kind, flags, 0, payload);
        };
        push(HEADERS, END_HEADERS, header_block);
        let last = (framed.len() - 1) / MAX_FRAME;
        for (index, chunk) in framed.chunks(MAX_FRAME).enumerate() {
            push(DATA, if index == last { END_STREAM } else { 0 }, chunk);
        }
        Self {
            bytes,
            stream_ids,
            data: framed.len() as i64,
        }
    }

    fn append_to(&self, out: &mut Vec<u8>, stream: u32) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for at in &self.stream_ids {
            out[start + at..][..4].copy_from_slice(&stream.to_be_bytes());
        }
    }
}

/// A call that was sent.
struct Open {
    started: Instant,
    received: usize,
    ended: bool,
}

/// One HTTP/2 connection, with the calls on it.
struct Connection<'a> {
    addr: SocketAddr,
    call: &'a Call,
    /// Whether reads and writes return at once, or block for a tick.
    polled: bool,
    socket: Socket,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    input: Vec<u8>,
    /// How much of `input` was read.
    filled: usize,
    requests: Vec<Request>,
    next_body: usize,
    /// Starts of calls that are still to be sent.
    waiting: VecDeque<Instant>,
    /// Sent calls by stream id, from `first_stream` in steps of two: finding one is a subtraction.
    streams: VecDeque<Open>,
    first_stream: u32,
    /// How many of `streams` have not ended.
    open: usize,
    /// Whether the server's settings have come.
    settled: bool,
    /// No new streams: the server said GOAWAY, or the ids are used up.
    draining: bool,
    max_streams: usize,
    stream_window: i64,
    connection_window: i64,
    /// Bytes of DATA that the server has not been given back.
    consumed: u32,
    /// When a call last ended, or the connection last went from idle to busy.
    progress: Instant,
}

impl<'a> Connection<'a> {
    /// Connects. Calls wait until the server's settings have come.
    fn open(addr: SocketAddr, call: &'a Call, body: usize, polled: bool) -> io::Result<Self> {
        require(body < call.bodies.len(), "there is no such body")?;
        let longest = call.path.len().max(call.authority.len());
        require(longest <= LONGEST_STRING, "path or authority is too long")?;
        let block = request_headers(call);
        let request = |body: &Vec<u8>| Request::new(&block, body);
        let socket = TcpStream::connect_timeout(&addr, PATIENCE)?;
        socket.set_nodelay(true)?;
        let socket = Socket::shake_hands(socket, call.tls.as_ref())?;
        socket.tcp().set_nonblocking(polled)?;
        socket.tcp().set_read_timeout(Some(TICK))?;
        // Writes too: a server may stop reading until its answers are read.
        socket.tcp().set_write_timeout(Some(TICK))?;
        Ok(Self {
            addr,
            call,
            polled,
            socket,
            out: preface(),
            written: 0,
            input: vec![0; READ_BUFFER],
            filled: 0,
            requests: call.bodies.iter().map(request).collect(),
            next_body: body,
            waiting: VecDeque::new(),
            streams: VecDeque::new(),
            first_stream: 1,
            open: 0,
            settled: false,
            draining: false,
            max_streams: usize::MAX,
            stream_window: DEFAULT_WINDOW.into(),
            connection_window: DEFAULT_WINDOW.into(),
            consumed: 0,
            progress: Instant::now(),
        })
    }

    fn outstanding(&self) -> usize {
        self.open + self.waiting.len()
    }

    /// Adds a call that starts, or should have started, at `started`.
    fn submit(&mut self, started: Instant) {
        if self.outstanding() == 0 {
            self.progress = Instant::now();
        }
        self.waiting.push_back(started);
    }

    /// Sends what may be sent, and takes in what has arrived.
    fn exchange(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.send_waiting();
        self.flush()?;
        let received = self.fill()?;
        tally.now = Instant::now();
        if received > 0 {
            let counted = tally.window.contains(&tally.now);
            tally.report.bytes_received += if counted { received as u64 } else { 0 };
            self.take_frames(tally)?;
        }
        let silence = tally.now.saturating_duration_since(self.progress);
        if self.outstanding() > 0 && silence > PATIENCE {
            let (open, waiting) = (self.open, self.waiting.len());
            let what = format!("no answer to {open} calls; {waiting} wait for window or streams");
            return Err(io::Error::new(ErrorKind::TimedOut, what));
        }
        if self.draining && self.open == 0 {
            // A new connection takes over the calls that wait.
            let waiting = std::mem::take(&mut self.waiting);
            *self = Self::open(self.addr, self.call, self.next_body, self.polled)?;
            self.waiting = waiting;
        }
        Ok(())
    }

    fn send_waiting(&mut self) {
        while let Some(&started) = self.waiting.front() {
            let stream = self.end_of_streams();
            let request = &self.requests[self.next_body];
            let window = self.connection_window.min(self.stream_window);
            self.draining |= stream > MAX_31_BITS;
            // Requests are sent whole, so the windows have to hold all of it.
            let closed = self.draining || !self.settled;
            if closed || self.open >= self.max_streams || window < request.data {
                return;
            }
            request.append_to(&mut self.out, stream);
            self.connection_window -= request.data;
            self.streams.push_back(Open {
                started,
                received: 0,
                ended: false,
            });
            self.waiting.pop_front();
            self.open += 1;
            self.next_body = (self.next_body + 1) % self.requests.len();
        }
    }

    /// The id of the next stream.
    fn end_of_streams(&self) -> u32 {
        self.first_stream + 2 * self.streams.len() as u32
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match unless_paused(self.socket.write(&self.out[self.written..]))? {
                Some(bytes) => self.written += bytes,
                None => return Ok(()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let received = match unless_paused(self.socket.read(&mut self.input[self.filled..]))? {
            Some(0) => {
                let what = "the server closed the connection";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
            }
            received => received.unwrap_or(0),
        };
        self.filled += received;
        Ok(received)
    }

    /// Takes all complete frames out of the input.
    fn take_frames(&mut self, tally: &mut Tally) -> io::Result<()> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..self.filled];
        while let Some((frame, next)) = Frame::split(rest)? {
            self.take_frame(&frame, tally)?;
            rest = next;
        }
        let start = self.filled - rest.len();
        self.input = input;
        self.input.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    fn take_frame(&mut self, frame: &Frame, tally: &mut Tally) -> io::Result<()> {
        if !self.settled && frame.kind != SETTINGS {
            return Err(invalid("not HTTP/2: SETTINGS have to come first"));
        }
        match frame.kind {
            DATA | HEADERS if frame.has(PADDED_OR_PRIORITY) => {
                return Err(invalid("padding and priorities are not supported"));
            }
            DATA => self.take_data(frame, tally),
            HEADERS if !frame.has(END_HEADERS) => {
                return Err(invalid("header blocks of several frames are not supported"));
            }
            HEADERS if frame.has(END_STREAM) => {
                self.end(frame.stream, grpc_status(frame.payload), tally);
            }
            RST_STREAM => self.end(frame.stream, None, tally),
            SETTINGS if !frame.has(ACK) => self.take_settings(frame.payload)?,
            PING if !frame.has(ACK) => put_frame(&mut self.out, PING, ACK, 0, frame.payload),
            GOAWAY => self.take_goaway(frame.payload, tally)?,
            WINDOW_UPDATE if frame.stream == 0 => {
                self.connection_window += i64::from(number(frame.payload)? & MAX_31_BITS);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, frame: &Frame, tally: &mut Tally) {
        if let Some(open) = self.find(frame.stream) {
            open.received += frame.payload.len();
        }
        if let Some(message) = &mut tally.message {
            message.extend_from_slice(frame.payload);
        }
        // Only the connection is given its window back: a stream's is larger than any message.
        self.consumed += frame.payload.len() as u32;
        if self.consumed >= OUR_WINDOW / 2 {
            let credit = self.consumed.to_be_bytes();
            put_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &credit);
            self.consumed = 0;
        }
        if frame.has(END_STREAM) {
            // Without trailers there is no status.
            self.end(frame.stream, None, tally);
        }
    }

    fn take_settings(&mut self, payload: &[u8]) -> io::Result<()> {
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..])?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
                INITIAL_WINDOW_SIZE => self.stream_window = value.into(),
                _ => {}
            }
        }
        self.settled = true;
        put_frame(&mut self.out, SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    /// Lets the calls up to the given stream end; the server has not taken up the others.
    fn take_goaway(&mut self, payload: &[u8], tally: &mut Tally) -> io::Result<()> {
        let last = number(payload)? & MAX_31_BITS;
        let code = number(payload.get(4..).unwrap_or_default())?;
        if code != 0 {
            let reason = String::from_utf8_lossy(&payload[8..]);
            return Err(invalid(&format!("GOAWAY with error {code} {reason}")));
        }
        self.draining = true;
        let streams = (self.first_stream..self.end_of_streams()).step_by(2);
        for refused in streams.filter(|&stream| stream > last) {
            self.end(refused, None, tally);
        }
        Ok(())
    }

    /// The call on a stream, unless it has ended.
    fn find(&mut self, stream: u32) -> Option<&mut Open> {
        let distance = stream.checked_sub(self.first_stream)?;
        let open = self.streams.get_mut(distance as usize / 2)?;
        (distance % 2 == 0 && !open.ended).then_some(open)
    }

    /// Ends a call once, though RST_STREAM may follow trailers.
    fn end(&mut self, stream: u32, status: Option<u32>, tally: &mut Tally) {
        let Some(open) = self.find(stream) else {
            return;
        };
        open.ended = true;
        tally.record(open.started, status, open.received >= 5);
        self.open -= 1;
        self.progress = tally.now;
        while self.streams.front().is_some_and(|open| open.ended) {
            self.streams.pop_front();
            self.first_stream += 2;
        }
    }
}

/// What a read or write did, or nothing if it has to be tried again later.
fn unless_paused(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result.as_ref().map_err(io::Error::kind) {
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(None),
        _ => result.map(Some),
    }
}

/// The number in the first four bytes.
fn number(bytes: &[u8]) -> io::Result<u32> {
    let too_short = || invalid("the server sent too short a frame");
    let first = bytes.first_chunk().ok_or_else(too_short)?;
    Ok(u32::from_be_bytes(*first))
}

// Entries of the static table of HPACK.
const AUTHORITY: u8 = 1;
const METHOD_POST: u8 = 3;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const CONTENT_TYPE: u8 = 31;
/// Indices above are those of the dynamic table, which has no entries here.
const LAST_STATIC: usize = 61;
/// Up to here the length of a string is one byte, which spares the code for longer ones.
const LONGEST_STRING: usize = 126;

/// The header block of every request: static entries, and literals that are not indexed.
fn request_headers(call: &Call) -> Vec<u8> {
    let mut block = vec![0x80 | METHOD_POST, 0x80 | SCHEME_HTTP, PATH];
    put_string(&mut block, &call.path);
    block.push(AUTHORITY);
    put_string(&mut block, &call.authority);
    // An index that does not fit four bits goes on in the next byte.
    block.extend_from_slice(&[15, CONTENT_TYPE - 15]);
    put_string(&mut block, "application/grpc");
    block.push(0);
    put_string(&mut block, "te");
    put_string(&mut block, "trailers");
    if let Some(login) = call.login {
        block.push(0);
        put_string(&mut block, "authorization");
        put_string(&mut block, &format!("Bearer {login}"));
    }
    block
}

fn put_string(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}

/// An integer that begins in the low `prefix` bits of a byte.
fn take_integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let limit = (1 << prefix) - 1;
    let mut value = usize::from(*block.split_off_first()?) & limit;
    if value < limit {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.split_off_first()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A string as it was sent: whether in Huffman code, and its bytes.
fn take_string<'a>(block: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let is_huffman = block.first()? & 0x80 != 0;
    let length = take_integer(block, 7)?;
    Some((is_huffman, block.split_off(..length)?))
}

/// The value of `grpc-status` in a header block, or nothing if the block is not understood.
fn grpc_status(mut block: &[u8]) -> Option<u32> {
    let mut status = None;
    while let Some(&first) = block.first() {
        // The leading bits tell what follows; an integer has the others.
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let integer = take_integer(&mut block, prefix)?;
        if prefix != 5 && integer > LAST_STATIC {
            return None;
        }
        if is_literal {
            // An indexed name is one of the static table, which has no grpc-status.
            let name = match integer {
                0 => take_string(&mut block)?,
                _ => (false, &[][..]),
            };
            let value = take_string(&mut block)?;
            if matches!(name, (false, b"grpc-status") | (true, HUFFMAN_GRPC_STATUS)) {
                status = Some(status_code(value)?);
            }
        }
    }
    status
}

// A string has one form in Huffman code, so the few that matter here need no decoder.
const HUFFMAN_GRPC_STATUS: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
/// The numbers from 0 to 9, and from 10 to 16.
const HUFFMAN_DIGITS: [u8; 10] = [0x07, 0x0f, 0x17, 0x67, 0x6b, 0x6f, 0x73, 0x77, 0x7b, 0x7f];
const HUFFMAN_TEENS: [u16; 7] = [0x083f, 0x087f, 0x08bf, 0x0b3f, 0x0b5f, 0x0b7f, 0x0b9f];

fn status_code((is_huffman, text): (bool, &[u8])) -> Option<u32> {
    if !is_huffman {
        return (0..=16_u32).find(|code| code.to_string().as_bytes() == text);
    }
    let code = match *text {
        [digit] => HUFFMAN_DIGITS.iter().position(|&code| code == digit)?,
        [high, low] => {
            let teen = u16::from_be_bytes([high, low]);
            10 + HUFFMAN_TEENS.iter().position(|&code| code == teen)?
        }
        _ => return None,
    };
    Some(code as u32)
}

// Paths in full: a bench without the standard harness compiles this module, but not its tests.
#[cfg(test)]
mod tests {
    #[test]
    fn a_request_carries_its_stream_id_in_every_frame() {
        let request = super::Request::new(b"headers", &[7; 20_000]);
        let mut out = vec![0xff];
        request.append_to(&mut out, 0x0102_0305);
        assert_eq!(out[1..10], [0, 0, 7, 1, 4, 1, 2, 3, 5]);
        assert_eq!(out[17..26], [0, 0x40, 0, 0, 0, 1, 2, 3, 5]);
        assert_eq!(out[26..31], [0, 0, 0, 0x4e, 0x20]);
        assert_eq!(out[26 + 16_384..][..9], [0, 0x0e, 0x25, 0, 1, 1, 2, 3, 5]);
        assert_eq!(request.data, 20_005);
    }

    #[test]
    fn the_status_is_found_in_any_encoding() {
        let status = |name: &[u8], value: &[u8]| {
            // A static entry, a size update and a header with a static name come before it.
            let before = [0x88, 0x20, 0x0f, 0x10, 1, b'x', 0x40];
            super::grpc_status(&[&before, name, value].concat())
        };
        let huffman_name = [&[0x88], super::HUFFMAN_GRPC_STATUS].concat();
        for name in [&b"\x0bgrpc-status"[..], &huffman_name] {
            for ok in [&b"\x010"[..], b"\x81\x07"] {
                assert_eq!(status(name, ok), Some(0));
            }
            for unimplemented in [&b"\x0212"[..], b"\x82\x08\xbf"] {
                assert_eq!(status(name, unimplemented), Some(12));
            }
            for bad in [
                &b""[..],
                b"\x00",
                b"\x80",
                b"\x02+1",
                b"\x0217",
                b"\x81\x06",
            ] {
                assert_eq!(status(name, bad), None);
            }
        }
        for unknown in [0x88, 0xbe, 0x40] {
            assert_eq!(super::grpc_status(&[unknown]), None);
        }
    }

    #[test]
    fn latency_counts_from_the_schedule() {
        let begin = std::time::Instant::now();
        let after = |millis| begin + std::time::Duration::from_millis(millis);
        let mut tally = super::Tally::new(after(100)..after(200), true);
        // One call each ten milliseconds, and all answers together after a second.
        tally.now = after(1_000);
        for call in 0..30 {
            let started = super::scheduled_at(begin, call, 100);
            tally.record(started, Some(u32::from(call == 15)), true);
        }
        let (report, ms) = (&tally.report, 1_000_000);
        assert_eq!((report.calls, report.failures), (10, 1));
        assert_eq!(
            report.latency.max(),
            report.latency.highest_equivalent(900 * ms)
        );
        assert_eq!(
            report.latency.min(),
            report.latency.lowest_equivalent(810 * ms)
        );
    }
}
