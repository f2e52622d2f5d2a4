//! A small HTTP server on a thread: one request a connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// What was asked.
pub(crate) struct Request {
    /// The request line and the headers, in lower case but for the first.
    pub(crate) head: Vec<String>,
    pub(crate) body: String,
}

/// Serves with `serve`, on a free port, until the test ends. Answers the port.
pub(crate) fn start(mut serve: impl FnMut(Request, &mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(request) = read(&mut stream) {
                serve(request, &mut stream);
            }
        }
    });
    port
}

/// Serves `answer` to everybody.
pub(crate) fn start_with(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    // Whoever asked may have gone.
    start(move |_, stream| drop(stream.write_all(&answer)))
}

/// An answer of one piece.
pub(crate) fn answer(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.trim_end().split("\r\n").enumerate();
    let head: Vec<String> = lines
        .map(|(at, line)| match at {
            0 => line.to_owned(),
            _ => line.to_lowercase(),
        })
        .collect();
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Request { head, body })
}
