//! What the proxy holds, as JSON: the contract between port 15000 and `meshctl`.
//!
//! `GET /config/<part>` answers an object with `generation` (which change of configuration this is) and the part's own
//! field; `/config/all` has all fields, of one moment. Fields are only ever added. What is not there is `null` or an empty
//! list, never left out. Names of services are `<namespace>/<host>`; an `origin` is
//! `{kind, namespace, name, generation}`, the object that somebody wrote; durations are whole milliseconds (`…_ms`);
//! moments are RFC 3339 in UTC; what has variants has lower-case names with `_`, and where a variant carries something it is
//! an object with the variant as its only field, or with a field `type`.
//!
//! | part | field | is |
//! |---|---|---|
//! | `services` | `services`, `keys` | [`services`]: a list of services, and what addresses and names were asked for |
//! | `routes` | `routes` | [`routes`]: a list of tables, rules in order |
//! | `endpoints` | `endpoints` | [`endpoints`]: a list, one entry per service and endpoint |
//! | `inbound` | `inbound` | [`inbound`]: an object, `null` before the control plane has told |
//! | `secrets` | `secrets` | [`secrets`]: certificates, never keys |
//! | `settings` | `settings` | [`settings`]: the mesh's and the process's |
//!
//! Lists are ordered by name, so that two dumps can be compared.

pub(super) mod common;
pub(super) mod endpoints;
pub(super) mod inbound;
pub(super) mod policy;
pub(super) mod routes;
pub(super) mod secrets;
pub(super) mod services;
pub(super) mod settings;

use std::time::SystemTime;

use mesh_core::time::Millis;
use serde::Serialize;

use super::ports::Admin;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Services and keys.
    Services,
    /// Route tables.
    Routes,
    /// Endpoints.
    Endpoints,
    /// The own Inbound.
    Inbound,
    /// Certificates.
    Secrets,
    /// Settings.
    Settings,
    /// Everything.
    All,
}

impl Part {
    /// By the last segment of its path.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "services" => Self::Services,
            "routes" => Self::Routes,
            "endpoints" => Self::Endpoints,
            "inbound" => Self::Inbound,
            "secrets" => Self::Secrets,
            "settings" => Self::Settings,
            "all" => Self::All,
            _ => return None,
        })
    }
}

/// An answer. The outer `Option` says whether the field was asked for.
#[derive(Serialize)]
pub(super) struct Dump {
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<services::Service>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<services::Keys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<routes::Table>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<endpoints::Endpoint>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<Option<inbound::Inbound>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<secrets::Secrets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<settings::Settings>,
}

/// What the proxy holds now.
pub(super) fn dump(admin: &Admin, part: Part) -> Dump {
    let view = admin.views.load();
    let asked = |this: Part| part == this || part == Part::All;
    Dump {
        generation: view.generation(),
        services: asked(Part::Services).then(|| services::all(&view)),
        keys: asked(Part::Services).then(|| services::keys(&view)),
        routes: asked(Part::Routes).then(|| routes::all(&view)),
        endpoints: asked(Part::Endpoints).then(|| endpoints::all(&view, Millis::since_start(admin.begun.elapsed()))),
        inbound: asked(Part::Inbound).then(|| inbound::own(&view, &admin.drain)),
        secrets: asked(Part::Secrets).then(|| secrets::of(&admin.credentials, SystemTime::now())),
        settings: asked(Part::Settings).then(|| settings::all(&view, &admin.bootstrap)),
    }
}
