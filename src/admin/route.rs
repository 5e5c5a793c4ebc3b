//! Paths of the admin listener, and the methods there are.

use hyper::Method;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/metrics`
    Metrics,
    /// `/ready`
    Ready,
    /// `/health`
    Health,
    /// `/drain`
    Drain,
}

impl Route {
    /// Reads a path; `None` if there is nothing.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/metrics" => Self::Metrics,
            "/ready" => Self::Ready,
            "/health" => Self::Health,
            "/drain" => Self::Drain,
            _ => return None,
        })
    }

    /// Its methods, as they stand in `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Metrics | Self::Ready | Self::Health => "GET, HEAD",
            Self::Drain => "POST",
        }
    }

    /// Whether it has this method.
    pub(super) fn takes(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}
