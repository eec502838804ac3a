//! A peer of the benchmark as a process: `bench_server <mode> <port> <redis url>`.

use std::process::ExitCode;

use understudy_tests::bench::peers::{self, Mode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, port, redis_url] = &arguments[..] else {
        eprintln!("usage: bench_server bare|actix-session|fred <port> <redis url>");
        return ExitCode::from(64);
    };
    let (Some(mode), Ok(port)) = (Mode::named(mode), port.parse()) else {
        eprintln!("bench_server: no such mode, or no such port");
        return ExitCode::from(64);
    };
    match actix_web::rt::System::new().block_on(peers::serve(mode, port, redis_url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_server: {error}");
            ExitCode::FAILURE
        }
    }
}
