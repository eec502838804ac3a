//! Locks for operators: who holds which, and taking one away.
//!
//! `GET /v1/locks` lists what is held in the whole cluster; `DELETE /v1/locks/{name}` (operator) frees a lock whose
//! holder hangs, and tells the holder.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::resources::{json, starting};
use crate::http::problem::{ApiError as _, Problem};
use crate::lock::{ClusterLocks, LockInfo};

/// Adds the resources; before the locks are there they answer that the node starts.
pub(super) fn configure(app: &mut web::ServiceConfig, locks: Option<&ClusterLocks>) {
    let (listed, cleared) = (locks.cloned(), locks.cloned());
    let list = move || list(listed.clone());
    let clear = move |name: web::Path<String>| clear(cleared.clone(), name.into_inner());
    app.route("/v1/locks", web::get().to(list))
        // A name may have slashes.
        .route("/v1/locks/{name:.*}", web::delete().to(clear));
}

async fn list(locks: Option<ClusterLocks>) -> HttpResponse {
    let Some(locks) = locks else { return starting() };
    match locks.list().await {
        Ok(locks) => json(&LocksBody { locks }),
        Err(error) => error.problem().response(),
    }
}

async fn clear(locks: Option<ClusterLocks>, name: String) -> HttpResponse {
    let Some(locks) = locks else { return starting() };
    match locks.clear(&name).await {
        Ok(Some(cleared)) => json(&ClearedBody { cleared }),
        Ok(None) => not_held().response(),
        Err(error) => error.problem().response(),
    }
}

fn not_held() -> Problem {
    let code = "lock_not_held";
    Problem::new(StatusCode::NOT_FOUND, code, "Nobody holds a lock of this name")
}

#[derive(Serialize)]
struct LocksBody {
    /// The oldest first, 1,000 at most.
    locks: Vec<LockInfo>,
}

#[derive(Serialize)]
struct ClearedBody {
    /// What the lock was before.
    cleared: LockInfo,
}
