//! What servers and Redis did between two looks.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Commands that only scripts issue here. `INFO commandstats` counts what a script calls like what a
/// client sends; only the latter is a message.
const INSIDE_SCRIPTS: [&str; 21] = [
    "time",
    "exists",
    "del",
    "hget",
    "hmget",
    "hset",
    "hdel",
    "hexists",
    "hincrby",
    "hlen",
    "pexpire",
    "pexpireat",
    "zadd",
    "zrem",
    "pttl",
    "zremrangebyscore",
    "zrangebyscore",
    "zscore",
    "type",
    "xadd",
    "info",
];

/// What a load cost between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Time of the server processes on a processor, user and kernel.
    pub servers: Duration,
    /// Time of Redis on a processor.
    pub redis: Duration,
    /// Commands that Redis was sent.
    pub commands: u64,
    /// The same, with those that scripts issued.
    pub commands_in_all: u64,
}

#[derive(Debug, Clone, Default)]
struct Reading {
    servers: Duration,
    redis: Duration,
    calls: BTreeMap<String, u64>,
}

/// Looks at processes and at one Redis.
#[derive(Debug)]
pub struct Meter {
    redis: TcpStream,
    pids: Vec<u32>,
    before: Reading,
}

impl Meter {
    /// Connects to Redis on a port of this machine, without a password.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(port: u16) -> io::Result<Self> {
        Ok(Self {
            redis: TcpStream::connect(("127.0.0.1", port)).await?,
            pids: Vec::new(),
            before: Reading::default(),
        })
    }

    /// Begins to count, for these server processes.
    ///
    /// # Errors
    /// Redis went away.
    pub async fn begin(&mut self, pids: &[u32]) -> io::Result<()> {
        self.pids = pids.to_vec();
        self.before = self.read().await?;
        Ok(())
    }

    /// What was counted since [`begin`](Self::begin).
    ///
    /// # Errors
    /// Redis went away.
    pub async fn end(&mut self) -> io::Result<Costs> {
        let after = self.read().await?;
        let mut costs = Costs {
            servers: after.servers.saturating_sub(self.before.servers),
            redis: after.redis.saturating_sub(self.before.redis),
            ..Costs::default()
        };
        for (command, calls) in &after.calls {
            let calls = calls - self.before.calls.get(command).copied().unwrap_or(0);
            costs.commands_in_all += calls;
            if !INSIDE_SCRIPTS.contains(&command.as_str()) {
                costs.commands += calls;
            }
        }
        Ok(costs)
    }

    /// Bytes that Redis uses for data.
    ///
    /// # Errors
    /// Redis went away.
    pub async fn redis_memory(&mut self) -> io::Result<u64> {
        let info = self.info("memory").await?;
        Ok(field(&info, "used_memory_dataset:").unwrap_or(0.0) as u64)
    }

    async fn read(&mut self) -> io::Result<Reading> {
        let info = self.info("everything").await?;
        let part = |name| field(&info, name).map_or(Duration::ZERO, Duration::from_secs_f64);
        Ok(Reading {
            servers: self.pids.iter().map(|&pid| processor_time(pid)).sum(),
            redis: part("used_cpu_sys:") + part("used_cpu_user:"),
            calls: info.lines().filter_map(calls).collect(),
        })
    }

    async fn info(&mut self, section: &str) -> io::Result<String> {
        let command = format!("INFO {section}\r\n");
        self.redis.write_all(command.as_bytes()).await?;
        let mut reply = Vec::new();
        loop {
            if self.redis.read_buf(&mut reply).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(text) = bulk(&reply) {
                return Ok(text);
            }
        }
    }
}

/// The text of `$<length>\r\n<text>\r\n`, once all of it is there.
fn bulk(reply: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(reply).ok()?;
    let (length, rest) = text.strip_prefix('$')?.split_once("\r\n")?;
    let length: usize = length.parse().ok()?;
    (rest.len() >= length + 2).then(|| rest[..length].to_owned())
}

fn field(info: &str, name: &str) -> Option<f64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// `cmdstat_evalsha:calls=7,usec=..` as `("evalsha", 7)`.
fn calls(line: &str) -> Option<(String, u64)> {
    let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    Some((command.to_owned(), rest.split(',').next()?.parse().ok()?))
}

/// User and kernel time of a process, to 10 ms; zero once it is gone.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program may hold anything but ends with the last bracket; utime and stime
    // are the 12th and 13th field after it, in 1/100 s.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::{bulk, calls, field};

    #[test]
    fn what_redis_says_is_read() {
        let info = "# CPU\r\nused_cpu_sys:1.5\r\ncmdstat_evalsha:calls=7,usec=9\r\n";
        let reply = format!("${}\r\n{info}\r\n", info.len());
        assert_eq!(bulk(&reply.as_bytes()[..20]), None);
        assert_eq!(bulk(reply.as_bytes()).as_deref(), Some(info));
        assert_eq!(field(info, "used_cpu_sys:"), Some(1.5));
        let found: Vec<_> = info.lines().filter_map(calls).collect();
        assert_eq!(found, [("evalsha".to_owned(), 7)]);
    }
}
