//! Verbs about the cache: what its regions hold, and forgetting it.

use super::super::verb::{Parameter, Verb};
use super::super::view::View;
use super::super::views;

const REGION: Parameter = Parameter::path("region", "REGION", "Name of the region, from `caches`");

pub(super) const VERBS: &[Verb] = &[
    Verb::get(
        "caches.list",
        "caches",
        "/v1/caches",
        "Lists the regions of the cache, node by node",
    )
    .view(View::Parts(views::caches::CACHES)),
    Verb::delete(
        "caches.clear_all",
        "caches clear-all",
        "/v1/caches",
        "Forgets all cached values of all regions, on all nodes",
    )
    .asks("Everything that was cached is loaded anew, from the database as a rule.")
    .view(View::Parts(views::caches::FORGOTTEN)),
    Verb::delete(
        "caches.clear",
        "caches clear",
        "/v1/caches/{region}",
        "Forgets all cached values of a region, on all nodes",
    )
    .with(&[REGION])
    .asks("All values of the region are loaded anew, from the database as a rule.")
    .view(View::Parts(views::caches::FORGOTTEN)),
    Verb::delete(
        "caches.forget",
        "caches forget",
        "/v1/caches/{region}/{key*}",
        "Forgets one cached value, on all nodes",
    )
    .with(&[REGION, Parameter::path("key", "KEY", "Key of the value")])
    .asks("The value is loaded anew.")
    .view(View::Parts(views::caches::FORGOTTEN)),
];
