//! The resources.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use understudy_runtime::admin::asked::{Nothing, Query, body};
use understudy_runtime::admin::note;
use understudy_runtime::broadcast::Broadcast;
use understudy_runtime::bus::BusRequest;
use understudy_runtime::http::problem::Problem;

use super::answer::{
    Answer, Refusal, accepted, ambiguous_id, invalid_value, no_user, ok, unknown_session,
};
use crate::handle::{EndError, SessionHandle};
use crate::record::Token;
use crate::store::StoreError;
use crate::store::online::OnlineCursor;
use crate::store::register::{Cursor, Glimpse, is_digit};
use crate::users::{Tally, is_name};

/// How long nodes have to say how many sessions they have in memory.
const RESIDENTS_LIMIT: Duration = Duration::from_secs(1);
/// How long the database has to say how many children there are.
const CHILDREN_LIMIT: Duration = Duration::from_secs(1);
/// Fewest and most digits by which a session is looked for.
const DIGITS: std::ops::RangeInclusive<usize> = 8..=32;
/// What must be said to end all sessions.
const CONFIRM: &str = "end all sessions";
/// How long the end of all sessions is waited for; after that it goes on by itself.
const END_ALL_LIMIT: Duration = Duration::from_secs(20);
/// Within which time users count as online when nothing is said.
const ONLINE_WITHIN_S: u64 = 300;
/// What a user's name must be.
const NAME: &str = "1 to 256 bytes without control characters";

/// Asks how many sessions a node has in memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Residents;

impl BusRequest for Residents {
    const NAME: &'static str = "session.residents";
    type Reply = u64;
}

/// What the resources stand on.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) handle: SessionHandle,
    pub(crate) broadcast: Broadcast,
}

/// Adds the resources.
pub(crate) fn configure(app: &mut ServiceConfig, admin: &Admin) {
    let one =
        web::resource("/v1/sessions/{id}").route(web::get().to(show)).route(web::delete().to(end));
    app.app_data(Data::new(admin.clone()))
        .service(web::resource("/v1/sessions").route(web::get().to(list)))
        .service(web::resource("/v1/sessions/count").route(web::get().to(count)))
        .service(web::resource("/v1/sessions/end-all").route(web::post().to(end_all)))
        .service(one)
        .service(web::resource("/v1/users/online").route(web::get().to(online)))
        .service(web::resource("/v1/sessions/{id}/others").route(web::delete().to(end_others)))
        .service(web::resource("/v1/users/{user}/sessions").route(web::delete().to(end_user)));
    super::actors::configure(app);
}

#[derive(Serialize)]
pub(super) struct SessionBody {
    id: String,
    user: Option<String>,
    owner: Option<String>,
    epoch: u64,
    created_ms: u64,
    changed_ms: u64,
    expires_ms: u64,
    bytes: u64,
    version: u64,
    lease: Option<LeaseBody>,
}

#[derive(Serialize)]
struct LeaseBody {
    node: String,
    live: bool,
}

impl From<Glimpse> for SessionBody {
    fn from(glimpse: Glimpse) -> Self {
        let owner = glimpse.owner.as_ref().map(Token::node_text).map(str::to_owned);
        let live = glimpse.lease_ms > 0;
        Self {
            id: glimpse.locator.public_id(),
            lease: owner.clone().map(|node| LeaseBody { node, live }),
            owner,
            epoch: glimpse.epoch,
            created_ms: glimpse.created_ms,
            changed_ms: glimpse.last_access_ms,
            expires_ms: glimpse.ends_ms(),
            bytes: glimpse.bytes,
            version: glimpse.version,
            user: glimpse.user,
        }
    }
}

#[derive(Serialize)]
struct SessionsBody {
    sessions: Vec<SessionBody>,
    /// Behind which session the next page begins.
    next: Option<String>,
    total: Option<u64>,
}

async fn list(admin: Data<Admin>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["user", "after", "limit"])?;
    let (limit, user) = (query.limit()?, query.parsed("user", NAME, user_name)?);
    let after = query.parsed("after", "the `next` of the page before", Cursor::from_text)?;
    let body = match user {
        Some(user) => of_user(&admin.handle, &user, after, limit as usize).await?,
        None => {
            let page = admin.handle.register().page(after.as_ref(), limit).await?;
            // Counted once for a list, not for each of its pages.
            let total = match after {
                None => Some(admin.handle.register().count().await?.sessions),
                Some(_) => None,
            };
            SessionsBody {
                sessions: page.sessions.into_iter().map(SessionBody::from).collect(),
                next: page.next.map(|next| next.to_text()),
                total,
            }
        }
    };
    Ok(ok(&body))
}

/// Lists the sessions of a user in the order of their ids.
async fn of_user(
    handle: &SessionHandle,
    user: &str,
    after: Option<Cursor>,
    limit: usize,
) -> Result<SessionsBody, StoreError> {
    let mut sessions = handle.sessions_of(user).await?;
    sessions.sort_by_cached_key(|session| session.locator.public_id());
    let total = Some(sessions.len() as u64);
    if let Some(after) = after {
        sessions.retain(|session| session.locator.public_id() > after.id);
    }
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let last = sessions.last().filter(|_| more).map(|last| last.locator.public_id());
    Ok(SessionsBody {
        next: last.map(|id| Cursor { part: 0, id }.to_text()),
        sessions: sessions.into_iter().map(SessionBody::from).collect(),
        total,
    })
}

#[derive(Serialize)]
struct CountBody {
    sessions: u64,
    /// Those in which somebody is logged in, and the others, but for children.
    named: u64,
    anonymous: u64,
    /// Sessions within a session; `null` when the database did not say.
    children: Option<u64>,
    users: Option<u64>,
    /// How many each node has in memory; `null` when it did not say.
    residents: BTreeMap<String, Option<u64>>,
}

async fn count(admin: Data<Admin>, request: HttpRequest) -> Answer {
    Query::of(&request, &[])?;
    let count = admin.handle.register().count().await?;
    let asked = admin.broadcast.clone().within(RESIDENTS_LIMIT).ask(&Residents).await;
    let residents = asked.answers.into_iter();
    let residents =
        residents.map(|answer| (answer.node.name().as_str().to_owned(), answer.result.ok()));
    let children = children(&admin.handle).await;
    let without_user = count.sessions.saturating_sub(count.named);
    Ok(ok(&CountBody {
        sessions: count.sessions,
        named: count.named,
        anonymous: without_user.saturating_sub(children.unwrap_or(0)),
        children,
        users: count.users,
        residents: residents.collect(),
    }))
}

/// Children have no user, and are no visitors. How many there are the database knows.
async fn children(handle: &SessionHandle) -> Option<u64> {
    let kin = handle.0.kin.as_ref()?;
    match tokio::time::timeout(CHILDREN_LIMIT, kin.count_children()).await {
        Ok(Ok(children)) => Some(children),
        Ok(Err(error)) => {
            tracing::debug!(%error, "children are counted as anonymous sessions");
            None
        }
        Err(_elapsed) => None,
    }
}

#[derive(Serialize)]
struct OnlineBody {
    users: Vec<OnlineUserBody>,
    /// Behind whom the next page begins.
    next: Option<String>,
    within_s: u64,
    total: Option<u64>,
    guests: Option<u64>,
}

#[derive(Serialize)]
struct OnlineUserBody {
    user: String,
    seen_ms: u64,
}

async fn online(admin: Data<Admin>, request: HttpRequest) -> Answer {
    let query = Query::of(&request, &["within_s", "after", "limit"])?;
    let limit = query.limit()?;
    let within_s = query.number("within_s", 1..=3_600)?;
    let within_s = within_s.and_then(|it| u64::try_from(it).ok()).unwrap_or(ONLINE_WITHIN_S);
    let after = query.parsed("after", "the `next` of the page before", OnlineCursor::from_text)?;
    let within = Duration::from_secs(within_s);
    let page = admin.handle.online(within, after.as_ref(), limit).await?;
    // Counted once for a list, not for each of its pages.
    let count = match after {
        None => Some(admin.handle.count_online(within).await?),
        Some(_) => None,
    };
    let users = page.users.into_iter();
    Ok(ok(&OnlineBody {
        users: users.map(|it| OnlineUserBody { user: it.user, seen_ms: it.seen_ms }).collect(),
        next: page.next.map(|next| next.to_text()),
        within_s,
        total: count.map(|count| count.users),
        guests: count.map(|count| count.guests),
    }))
}

async fn show(admin: Data<Admin>, request: HttpRequest, id: Path<String>) -> Answer {
    Query::of(&request, &[])?;
    let glimpse = found(&admin.handle, &id).await?;
    Ok(ok(&SessionBody::from(glimpse)))
}

async fn end(admin: Data<Admin>, request: HttpRequest, id: Path<String>, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let glimpse = found(&admin.handle, &id).await?;
    let session = glimpse.locator.id_for_logs();
    note(&request, format!("session {session} of {}", whose(glimpse.user.as_deref())));
    admin.handle.end(&[glimpse.locator]).await?;
    tracing::info!(session.id = session, "an operator ended a session");
    Ok(ok(&json!({ "ended": 1 })))
}

async fn end_others(
    admin: Data<Admin>,
    request: HttpRequest,
    id: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    let glimpse = found(&admin.handle, &id).await?;
    let Some(user) = glimpse.user else { return Err(no_user().into()) };
    let ended = admin.handle.end_others(&user, glimpse.locator).await?;
    let session = glimpse.locator.id_for_logs();
    note(&request, format!("{ended} sessions of {} but {session}", whose(Some(&user))));
    tracing::info!(session.id = session, ended, "an operator ended the others of a user");
    Ok(ok(&json!({ "ended": ended })))
}

fn whose(user: Option<&str>) -> String {
    user.map_or_else(|| "nobody who is logged in".to_owned(), |user| format!("user {user:?}"))
}

/// Finds the session whose id begins so.
pub(super) async fn found(handle: &SessionHandle, id: &str) -> Result<Glimpse, Refusal> {
    let id = id.to_ascii_lowercase();
    if !DIGITS.contains(&id.len()) || !id.bytes().all(is_digit) {
        let right = format!("an id is {} to {} hexadecimal digits", DIGITS.start(), DIGITS.end());
        return Err(unknown_session().with_detail(right).into());
    }
    let found = handle.register().find(&id).await?;
    let sights = handle.register().look(&found).await?;
    let mut seen = sights.into_iter().filter_map(|sight| sight.seen());
    match (seen.next(), seen.next()) {
        (None, _) => Err(unknown_session().into()),
        (Some(glimpse), None) => Ok(glimpse),
        (Some(_), Some(_)) => Err(ambiguous_id().into()),
    }
}

async fn end_user(
    admin: Data<Admin>,
    request: HttpRequest,
    user: Path<String>,
    bytes: Bytes,
) -> Answer {
    Query::of(&request, &[])?;
    let Nothing {} = body(&request, &bytes)?;
    if !is_name(&user) {
        return Err(invalid_value(format!("the name of a user must be {NAME}")).into());
    }
    let ended = admin.handle.end_user(&user).await?;
    note(&request, format!("{ended} sessions of {}", whose(Some(user.as_str()))));
    tracing::info!(ended, "an operator ended the sessions of a user");
    Ok(ok(&json!({ "ended": ended })))
}

fn user_name(text: &str) -> Option<String> {
    is_name(text).then(|| text.to_owned())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndAll {
    confirm: String,
    why: String,
}

impl EndAll {
    fn check(&self) -> Result<(), Problem> {
        if self.confirm != CONFIRM {
            return Err(invalid_value(format!("`confirm` must be {CONFIRM:?}")));
        }
        if self.why.trim().is_empty() || self.why.len() > 1_000 {
            return Err(invalid_value("`why` must be 1 to 1000 bytes"));
        }
        Ok(())
    }
}

async fn end_all(admin: Data<Admin>, request: HttpRequest, bytes: Bytes) -> Answer {
    Query::of(&request, &[])?;
    let asked: EndAll = body(&request, &bytes)?;
    asked.check()?;
    tracing::warn!(why = asked.why, "an operator ends all sessions");
    let (handle, tally) = (admin.handle.clone(), Rc::new(Tally::default()));
    let counted = Rc::clone(&tally);
    // Not dropped with the request: half of it done is no answer to what it was wanted for.
    let ending = actix_web::rt::spawn(async move { handle.end_all(&counted).await });
    let finished = tokio::time::timeout(END_ALL_LIMIT, ending).await;
    let (ended, failed) = (tally.ended(), tally.failed());
    note(&request, format!("{ended} sessions, {failed} not: {}", asked.why));
    let counts = json!({ "ended": ended, "failed": failed });
    let result = match finished {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let lost = format!("the task that ends all sessions was lost: {panic}");
            Err(EndError::Store(StoreError::Unavailable(lost)))
        }
        Err(_goes_on) => return Ok(accepted(&counts)),
    };
    match result {
        Ok(()) => Ok(ok(&counts)),
        Err(error) => {
            let Refusal(problem) = Refusal::from(error);
            Err(Refusal(problem.with_member("ended", ended).with_member("failed", failed)))
        }
    }
}
