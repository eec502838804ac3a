//! Just enough HTTP/1.1 for a load generator: requests are bytes made once, answers are measured
//! rather than read.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any answer here has, so that one read takes a whole answer and tokio knows that the
/// socket is empty after it.
const BUFFER: usize = 16 * 1024;

/// What a server said, as far as a benchmark cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The first cookie that it set, as `name=value`.
    pub cookie: Option<String>,
    /// The body.
    pub body: String,
}

/// Makes the bytes of a request without a body.
pub(super) fn request(address: SocketAddr, line: &str, cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let length = if line.starts_with("POST") { "Content-Length: 0\r\n" } else { "" };
    format!("{line} HTTP/1.1\r\nHost: {address}\r\n{cookie}{length}\r\n").into_bytes()
}

/// A connection that is kept alive, with the latest answer in its buffer.
#[derive(Debug)]
pub struct Exchange {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Exchange {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { stream, buffer })
    }

    /// Sends a request and waits for the end of its answer; returns the status.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer.
    pub async fn status(&mut self, request: &[u8]) -> io::Result<u16> {
        Ok(self.take(request).await?.0.status)
    }

    /// The same, with the answer taken apart.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer.
    pub async fn answer(&mut self, line: &str, cookie: Option<&str>) -> io::Result<Answer> {
        let request = request(self.stream.peer_addr()?, line, cookie);
        let (head, filled) = self.take(&request).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = text(&self.buffer[..head.bytes]);
        let cookie = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let pair = value.split(';').next()?;
            name.eq_ignore_ascii_case("set-cookie").then(|| pair.to_owned())
        });
        let body = text(&self.buffer[head.bytes..filled]);
        Ok(Answer { status: head.status, cookie, body })
    }

    async fn take(&mut self, request: &[u8]) -> io::Result<(Head, usize)> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some(head) = Head::parse(&self.buffer[..filled])
                && filled >= head.bytes + head.body
            {
                return Ok((head, filled));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Up to and with the empty line.
    bytes: usize,
    /// Bytes of the body; chunks are not understood, nothing here sends them.
    body: usize,
}

impl Head {
    /// `None` until all of it is there. One pass, since a client may not cost more than a server.
    fn parse(answer: &[u8]) -> Option<Self> {
        let status = number(answer.get(9..12)?)?;
        let mut body = 0;
        let mut start = 0;
        loop {
            let line = &answer[start..];
            let end = line.iter().position(|&byte| byte == b'\n')?;
            start += end + 1;
            if end <= 1 {
                let status = u16::try_from(status).ok()?;
                return Some(Self { status, bytes: start, body });
            }
            body = content_length(&line[..end]).unwrap_or(body);
        }
    }
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    number(value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Head;

    #[test]
    fn an_answer_is_measured() {
        let whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\n{\"value\":10}";
        let head = Head { status: 200, bytes: whole.len() - 12, body: 12 };
        assert_eq!(Head::parse(whole), Some(head));
        assert_eq!(Head::parse(&whole[..49]), None);
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(Head::parse(empty).map(|head| head.body), Some(0));
    }
}
