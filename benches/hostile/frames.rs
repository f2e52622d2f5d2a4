//! HTTP/2 as those write it who mean harm: frames by hand, in any order.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x01;
pub(crate) const END_HEADERS: u8 = 0x04;

pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
/// RST_STREAM's reason when a client has changed its mind.
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long to leave a server alone whose buffers are full.
const PAUSE: Duration = Duration::from_micros(500);

/// Appends a frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short payload");
    put_frame_head(out, length, (kind, flags), stream);
    out.extend_from_slice(payload);
}

/// Appends the head of a frame, whatever follows it.
pub(crate) fn put_frame_head(out: &mut Vec<u8>, length: u32, (kind, flags): (u8, u8), stream: u32) {
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// What a client says first, with `settings` of its own.
pub(crate) fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put_frame(&mut out, SETTINGS, 0, 0, &payload);
    out
}

/// The header block of a gRPC call of `path`, without compression.
pub(crate) fn header_block(path: &str) -> Vec<u8> {
    // `:method: POST`, `:scheme: http`, then literals: `:path`, `:authority`, and names of their own.
    let mut block = vec![0x83, 0x86, 0x04];
    put_string(&mut block, path);
    block.push(0x01);
    put_string(&mut block, "localhost");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        put_header(&mut block, name, value);
    }
    block
}

/// Appends a header as a literal that is not indexed.
pub(crate) fn put_header(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    put_string(block, name);
    put_string(block, value);
}

fn put_string(block: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("a short string");
    assert!(length < 127, "a string of one length byte");
    block.push(length);
    block.extend_from_slice(text.as_bytes());
}

/// A message with the five bytes that gRPC puts in front of it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A connection that does not keep the rules.
pub(crate) struct Line {
    socket: TcpStream,
    scratch: Vec<u8>,
}

impl Line {
    /// Connects, and says nothing.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            scratch: vec![0; 64 << 10],
        })
    }

    /// Connects, and says what a client says first.
    pub(crate) fn open(address: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut line = Self::connect(address)?;
        line.socket.write_all(&preface(settings))?;
        Ok(line)
    }

    /// Writes all of `bytes`, and throws away what comes.
    pub(crate) fn send(&mut self, bytes: &[u8], until: Instant) -> io::Result<()> {
        self.write(bytes, until, Self::discard)
    }

    /// Writes all of `bytes`, and reads nothing.
    pub(crate) fn send_blindly(&mut self, bytes: &[u8], until: Instant) -> io::Result<()> {
        self.write(bytes, until, |_| Ok(()))
    }

    fn write(
        &mut self,
        mut bytes: &[u8],
        until: Instant,
        meanwhile: fn(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= until {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
            meanwhile(self)?;
        }
        meanwhile(self)
    }

    /// Reads what has come and throws it away; an error once the peer has closed.
    pub(crate) fn discard(&mut self) -> io::Result<()> {
        loop {
            match self.socket.read(&mut self.scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
