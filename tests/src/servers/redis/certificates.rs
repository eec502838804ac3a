//! A certificate authority and a server certificate, made with the `openssl` command.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::servers::commands::{find_program, run};
use crate::servers::scratch::Scratch;

const EXTENSIONS: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n\
    extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";

/// The files of one authority and one server.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    folder: Arc<Scratch>,
}

impl Certificates {
    /// Makes a new authority that nobody knows, and a certificate for 127.0.0.1.
    pub(super) fn create() -> Self {
        let folder = Scratch::new("certificates");
        std::fs::write(folder.join("extensions"), EXTENSIONS)
            .expect("an own directory is writable");
        for step in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN=harness -keyout ca.key -out ca.crt",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
             -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
             -out server.crt -extfile extensions",
        ] {
            let mut openssl = Command::new(find_program("openssl"));
            openssl.args(step.split_whitespace()).current_dir(folder.path());
            run(&mut openssl, Duration::from_secs(20))
                .unwrap_or_else(|error| panic!("no certificate: {error}"));
        }
        Self { folder: Arc::new(folder) }
    }

    /// The certificate that a client must trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The lines of redis.conf.
    pub(super) fn lines(&self) -> [String; 4] {
        let file = |name: &str| self.folder.join(name).display().to_string();
        [
            format!("tls-cert-file {}", file("server.crt")),
            format!("tls-key-file {}", file("server.key")),
            format!("tls-ca-cert-file {}", file("ca.crt")),
            "tls-auth-clients no".to_owned(),
        ]
    }
}
