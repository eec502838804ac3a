//! Who else keeps a file: nginx, and the client library of S3.

use std::path::Path;

use actix_web::web::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ClientOptions, MultipartUpload, ObjectStoreExt as _, PutPayload};

use super::LIMIT;
use crate::{Nginx, S3};

/// As large as the pieces of a node: larger ones or many at a time would be another way to do it.
const PIECE: usize = 5 << 20;

/// Starts nginx so that it gives what is in a folder, and takes what is put there.
pub(super) async fn nginx(folder: &Path) -> Nginx {
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let root = folder.display();
    let config = format!(
        "{user}worker_processes 2;
events {{ worker_connections 256; }}
http {{
    sendfile on;
    client_max_body_size 0;
    server {{
        listen 80;
        root {root};
        location / {{ dav_methods PUT; }}
    }}
}}
"
    );
    Nginx::with_config(&config, &[]).await
}

/// The client library with the settings of a node, and nothing around it.
#[derive(Debug)]
pub(super) struct Bare {
    bucket: AmazonS3,
    key: Key,
}

impl Bare {
    pub(super) fn connect(s3: &S3) -> Self {
        // The library does not begin without knowing how it would encrypt.
        rustls::crypto::ring::default_provider().install_default().ok();
        let (id, secret) = s3.key();
        let client = ClientOptions::default().with_timeout(LIMIT).with_allow_http(true);
        let bucket = AmazonS3Builder::new()
            .with_bucket_name(s3.bucket())
            .with_region("us-east-1")
            .with_endpoint(s3.url())
            .with_access_key_id(id)
            .with_secret_access_key(secret)
            .with_virtual_hosted_style_request(false)
            .with_client_options(client)
            .build();
        Self { bucket: bucket.expect("all options are set"), key: Key::from("bare/bench") }
    }

    pub(super) async fn write(&self, content: &Bytes) {
        let upload = self.bucket.put_multipart(&self.key).await;
        let mut upload: Box<dyn MultipartUpload> = upload.expect("the server answers");
        for start in (0..content.len()).step_by(PIECE) {
            let piece = content.slice(start..content.len().min(start + PIECE));
            upload.put_part(PutPayload::from(piece)).await.expect("the server takes a part");
        }
        upload.complete().await.expect("the server makes one of them");
    }

    /// Gives how many bytes came.
    pub(super) async fn read(&self, bytes: usize) -> usize {
        let (mut came, bytes) = (0, bytes as u64);
        for start in (0..bytes).step_by(PIECE) {
            let range = start..bytes.min(start + PIECE as u64);
            let piece = self.bucket.get_range(&self.key, range).await;
            came += piece.expect("the server gives a part").len();
        }
        came
    }
}
