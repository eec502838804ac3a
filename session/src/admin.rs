//! What operators see of and do with sessions, on the admin port.
//!
//! All answers are JSON and are not cached. What is shown of a session is what it is, never what the application keeps in
//! it, and nothing that opens it: its `id` is the hash of its locator, of which log lines show the first 12 digits as
//! `session.id`. Times are ms since 1970 on the store's clock. Refusals are problems (RFC 9457); their codes are named below,
//! but for those that any resource may answer: 400 `bad_query`, `bad_json`, `bad_json_value`, 415
//! `unsupported_media_type`, 422 `invalid_value`.
//!
//! | resource | what it does | answer |
//! |---|---|---|
//! | `GET /v1/sessions?user=&after=&limit=` | sessions, of a user if one is named, in an order that stays | `sessions`, `next`, `total` (`null` on further pages of all) |
//! | `GET /v1/sessions/count` | how many there are, and how many each node has in memory | `sessions`, `users` (`null` where only a look at every session would tell), `residents` by node (`null` when it did not answer) |
//! | `GET /v1/sessions/{id}` | one session; so many digits of its id as are unique, 8 or more | the session. 404 `unknown_session`, 409 `ambiguous_id` |
//! | `DELETE /v1/sessions/{id}` | ends it on every node | `ended`: 1. 404, 409; 503 `end_not_confirmed` with `nodes` |
//! | `DELETE /v1/sessions/{id}/others` | ends all other sessions of its user, also those whose login is under way | `ended`, how many. 404, 409; 409 `no_user`; 503 `end_not_confirmed` with `nodes` |
//! | `DELETE /v1/users/{user}/sessions` | ends all sessions of a user, also those whose login is under way | `ended`, how many. 503 `end_not_confirmed` with `nodes` |
//! | `GET /v1/users/online?within_s=&after=&limit=` | users of whom a session was used lately (5 minutes unless said, an hour at most), the latest first, and perhaps some who were here up to one touch interval before | `users` (`user`, `seen_ms`), `next`, `within_s`, `total` and `guests`: how many such users and such sessions without a user there are (`null` on further pages) |
//! | `POST /v1/sessions/end-all` `{confirm: "end all sessions", why}` | ends all sessions that there are | 200 `ended`, and `failed`: how many could not be ended or not even be read; 202 the same so far, when it takes longer than 20 s and goes on; 503 with both |
//! | `GET /v1/actors/session/{id}` | the session, and how its owner's actor is | `type`, `id`, `node`, `session` (as above), `actor` (`null` when no node has it in memory, or its node does not answer), `unreachable`. 404, 409 |
//! | `POST /v1/actors/session/{id}/stop` | hands the session back to the store and ends its actor; the next request starts another one | `stopped`, `node`. 404 also `unknown_actor`, 409 also `actor_busy`; 503 `node_unreachable` |
//!
//! The last two belong to the operations `actors.show` and `actors.stop` of the runtime, which knows other actors.
//!
//! A session is shown as `id`, `user`, `owner` (the node that has it in memory, or had it), `epoch`, `created_ms`,
//! `changed_ms` (the latest access that was noted), `expires_ms`, `bytes`, `version`, `lease` (`node`, `live`).
//!
//! An end counts on every node when it is answered. A node that owns some of the sessions and is stopped is waited for until
//! its lease is over, at most one time to live of a node; one that lives and does not answer is named by
//! `end_not_confirmed`: the sessions are over at the store, and it may show them until it looks there.
//!
//! A store that is away is 503 `session_store_unavailable` everywhere; what was asked for may then have been done.

mod actors;
mod answer;
mod operations;
mod resources;

pub(crate) use operations::OPERATIONS;
pub(crate) use resources::{Admin, Residents, configure};
