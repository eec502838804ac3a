//! The one style sheet and the one script, out of the binary. Their paths carry a hash of what is in them, so browsers may
//! keep them for ever and still see a new version at once.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpResponse, web};

use super::layout;

/// A year.
const KEPT: &str = "public, max-age=31536000, immutable";

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console.css", include_str!("assets/console.css"), "text/css; charset=utf-8")
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console.js", include_str!("assets/console.js"), "text/javascript; charset=utf-8")
});

/// A file that belongs to pages.
pub(super) struct Asset {
    path: String,
    text: &'static str,
    kind: &'static str,
}

impl Asset {
    fn new(name: &str, text: &'static str, kind: &'static str) -> Self {
        Self { path: format!("/console/assets/{:016x}/{name}", hash(text)), text, kind }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// The style sheet.
pub(super) fn style() -> &'static Asset {
    &STYLE
}

/// The script.
pub(super) fn script() -> &'static Asset {
    &SCRIPT
}

/// FNV-1a: only two versions of a file must be told apart here.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Answers with a file; one of another version is not there, and must not be kept under this one's name.
pub(super) async fn file(path: web::Path<(String, String)>) -> HttpResponse {
    let (hash, name) = path.into_inner();
    let wanted = format!("/console/assets/{hash}/{name}");
    match [style(), script()].into_iter().find(|asset| asset.path == wanted) {
        Some(asset) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, asset.kind))
            .insert_header((CACHE_CONTROL, KEPT))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(asset.text),
        None => layout::answer(StatusCode::NOT_FOUND).body("This file is of another version."),
    }
}
