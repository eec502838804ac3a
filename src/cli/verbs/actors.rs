//! Verbs about actors: what they do, one of them, stopping it.

use super::super::verb::{Kind, Parameter, Verb};
use super::super::view::View;
use super::super::views;

const TYPE: Parameter = Parameter::path("type", "TYPE", "Type of the actor, from `actors`");
const ID: Parameter =
    Parameter::path("id", "ID", "Of a session its id, from `sessions` or a log line; else a node");

pub(super) const VERBS: &[Verb] = &[
    Verb::get("actors.list", "actors", "/v1/actors", "Lists what the actors of all nodes do")
        .view(View::Parts(views::actors::ACTORS)),
    Verb::get(
        "actors.slow",
        "actors top",
        "/v1/actors/slow",
        "Lists the slowest messages of actors of the last 15 minutes",
    )
    .with(&[
        Parameter::query("type", Kind::Text("TYPE"), "Only of this type"),
        Parameter::query("limit", Kind::Count, "So many at most, 1 to 200"),
    ])
    .view(View::Parts(views::actors::SLOW)),
    Verb::get(
        "actors.show",
        "actors show",
        "/v1/actors/{type}/{id}",
        "Shows how one actor is, without what it holds",
    )
    .with(&[TYPE, ID]),
    Verb::post(
        "actors.stop",
        "actors stop",
        "/v1/actors/{type}/{id}/stop",
        "Stops one actor of a session; its next request starts another one",
    )
    .with(&[TYPE, ID])
    .asks("The actor goes, and its session is read from the store again at its next request. Nothing is lost."),
];
