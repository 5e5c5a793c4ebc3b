//! Paths of the admin listener, and the methods there are.

use hyper::Method;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/openapi.json`
    Description,
    /// `/metrics`
    Metrics,
    /// `/ready`
    Ready,
    /// `/health`
    Health,
    /// `/topics`
    Topics,
    /// `/clients`
    Clients,
    /// `/clients/{id}`
    Client(&'a str),
    /// `/log`
    Log,
    /// `/drain`
    Drain,
}

impl<'a> Route<'a> {
    /// Reads a path; `None` if there is nothing.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/openapi.json" => Self::Description,
            "/metrics" => Self::Metrics,
            "/ready" => Self::Ready,
            "/health" => Self::Health,
            "/topics" => Self::Topics,
            "/clients" => Self::Clients,
            "/log" => Self::Log,
            "/drain" => Self::Drain,
            _ => Self::Client(path.strip_prefix("/clients/").filter(|id| !id.is_empty())?),
        })
    }

    /// What it is called in the log, where no id is to stand.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Metrics => "metrics",
            Self::Ready => "ready",
            Self::Health => "health",
            Self::Topics => "topics",
            Self::Clients => "clients",
            Self::Client(_) => "client",
            Self::Log => "log",
            Self::Drain => "drain",
        }
    }

    /// Its methods, as they stand in `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Description | Self::Metrics | Self::Ready | Self::Health | Self::Topics | Self::Clients => {
                "GET, HEAD"
            }
            Self::Client(_) => "DELETE",
            Self::Log => "GET, HEAD, PUT",
            Self::Drain => "POST",
        }
    }

    /// Whether it has this method.
    pub(super) fn takes(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}
