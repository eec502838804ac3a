//! A certificate authority, a server certificate and a client certificate, made with the `openssl` command.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::servers::commands::{find_program, run};
use crate::servers::scratch::Scratch;

const SERVER: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n\
    extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";
const CLIENT: &str = "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n";

/// Whether a server wants to know its clients by their certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    Anonymous,
    Certified,
}

/// The files of one authority, one server and one client.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    folder: Arc<Scratch>,
    clients: Clients,
}

impl Certificates {
    /// Makes a new authority that nobody knows, a certificate for 127.0.0.1, and one for its clients.
    pub(super) fn create(clients: Clients) -> Self {
        let folder = Scratch::new("certificates");
        for (file, extensions) in [("server.ext", SERVER), ("client.ext", CLIENT)] {
            std::fs::write(folder.join(file), extensions).expect("an own directory is writable");
        }
        for step in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN=harness -keyout ca.key -out ca.crt",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
             -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
             -out server.crt -extfile server.ext",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node \
             -keyout client.key -out client.csr",
            "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
             -out client.crt -extfile client.ext",
        ] {
            let mut openssl = Command::new(find_program("openssl"));
            openssl.args(step.split_whitespace()).current_dir(folder.path());
            run(&mut openssl, Duration::from_secs(20))
                .unwrap_or_else(|error| panic!("no certificate: {error}"));
        }
        Self { folder: Arc::new(folder), clients }
    }

    /// Whether the server demands a certificate of its clients.
    pub(super) fn clients(&self) -> Clients {
        self.clients
    }

    /// The certificate that a client must trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The certificate of a client, and its key.
    pub(super) fn client(&self) -> [PathBuf; 2] {
        ["client.crt", "client.key"].map(|name| self.folder.join(name))
    }

    /// The lines of redis.conf.
    pub(super) fn lines(&self) -> [String; 4] {
        let file = |name: &str| self.folder.join(name).display().to_string();
        [
            format!("tls-cert-file {}", file("server.crt")),
            format!("tls-key-file {}", file("server.key")),
            format!("tls-ca-cert-file {}", file("ca.crt")),
            match self.clients {
                Clients::Anonymous => "tls-auth-clients no".to_owned(),
                Clients::Certified => "tls-auth-clients yes".to_owned(),
            },
        ]
    }
}
