//! An admin port of a few lines: one answer per request, and every request is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What somebody asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// A node that answers as it is told to.
pub(super) struct FakeNode {
    pub(super) url: String,
    requests: Receiver<Asked>,
}

/// A problem document as nodes send it.
pub(super) fn problem(code: &str) -> String {
    format!("{{\"title\":\"A title\",\"detail\":\"a detail\",\"code\":\"{code}\"}}")
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl FakeNode {
    /// Answers by what is asked; nothing is 404.
    pub(super) fn start(answer: impl Fn(&Asked) -> Option<(u16, String)> + Send + 'static) -> Self {
        Self::serving(move |asked, stream| {
            let (status, body) = answer(asked).unwrap_or_else(|| (404, problem("not_found")));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Any\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let head = if status == 204 { head.replace("content-length: 0\r\n", "") } else { head };
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        })
    }

    /// Gives one answer to one request, `GET /v1/nodes`.
    pub(super) fn answering(request: &str, status: u16, body: &str) -> Self {
        let (request, body) = (request.to_owned(), body.to_owned());
        Self::start(move |asked| {
            (format!("{} {}", asked.method, asked.target) == request)
                .then(|| (status, body.clone()))
        })
    }

    /// Writes onto the connection whatever it likes.
    pub(super) fn serving(mut serve: impl FnMut(&Asked, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests): (Sender<Asked>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(asked) = read(&stream) else { continue };
                if sender.send(asked.clone()).is_err() {
                    return;
                }
                serve(&asked, &mut stream);
            }
        });
        Self { url, requests }
    }

    /// Takes requests and never answers.
    pub(super) fn silent() -> Self {
        let mut kept = Vec::new();
        Self::serving(move |_, stream| kept.push(stream.try_clone().unwrap()))
    }

    /// An address at which nobody listens.
    pub(super) fn closed() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.requests.try_iter().collect()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body: String::from_utf8(body).unwrap() })
}
