//! Paths: which group of routes one belongs to, and the methods there are.

use hyper::Method;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/health`
    Health,
    /// `/ready`
    Ready,
    /// `/openapi.json`
    Description,
    /// `/register`
    Register,
    /// `/register/{id}`
    Registration(&'a str),
    /// `/publish`
    Publish,
    /// `/batch`
    Batch,
    /// `/publish/{topic}`: everything behind the slash, still percent-encoded.
    PublishTo(&'a str),
    /// `/topics/{topic}`: everything behind the slash, still percent-encoded.
    Topic(&'a str),
    /// `/topics/{topic}/history`. Of a topic that ends like that, the slash is written `%2F`.
    History(&'a str),
    /// `/ws/{id}`
    Socket(&'a str),
    /// `/ws`: a socket of somebody who did not register.
    OpenSocket,
    /// `*`, the server itself, which has only options.
    Server,
}

impl<'a> Route<'a> {
    /// Reads a path; `None` if there is nothing.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/openapi.json" => Self::Description,
            "/register" => Self::Register,
            "/publish" => Self::Publish,
            "/ws" => Self::OpenSocket,
            "/batch" => Self::Batch,
            "*" => Self::Server,
            _ => {
                let (group, rest) = path.strip_prefix('/')?.split_once('/')?;
                match group {
                    "register" => Self::Registration(rest),
                    "publish" => Self::PublishTo(rest),
                    "topics" => match rest.strip_suffix("/history") {
                        Some(topic) => Self::History(topic),
                        None => Self::Topic(rest),
                    },
                    "ws" => Self::Socket(rest),
                    _ => return None,
                }
            }
        })
    }

    /// What it is called in the log, where no id and no topic is to stand.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Description => "openapi",
            Self::Register | Self::Registration(_) => "register",
            Self::Publish | Self::PublishTo(_) => "publish",
            Self::Batch => "batch",
            Self::Topic(_) => "topic",
            Self::History(_) => "history",
            Self::Socket(_) | Self::OpenSocket => "websocket",
            Self::Server => "server",
        }
    }

    /// Its methods, as they stand in `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Health | Self::Ready | Self::Description | Self::Topic(_) | Self::History(_) => {
                "GET, HEAD, OPTIONS"
            }
            Self::Register | Self::Publish | Self::PublishTo(_) | Self::Batch => "POST, OPTIONS",
            Self::Registration(_) => "DELETE, OPTIONS",
            Self::Socket(_) | Self::OpenSocket => "GET, OPTIONS",
            Self::Server => "GET, HEAD, POST, DELETE, OPTIONS",
        }
    }

    /// Whether it has this method.
    pub(super) fn takes(self, method: &Method) -> bool {
        if self == Self::Server {
            return method == Method::OPTIONS;
        }
        // A publisher names the first one, as a rule.
        let (first, others) = self.methods().split_once(',').unwrap_or((self.methods(), ""));
        first == method.as_str() || others.split(',').any(|name| name.trim_start() == method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact_and_the_rest_of_a_topic_is_the_topic() {
        for (path, route) in [
            ("/health", Some(Route::Health)),
            ("/ready", Some(Route::Ready)),
            ("/openapi.json", Some(Route::Description)),
            ("/register", Some(Route::Register)),
            ("/register/", Some(Route::Registration(""))),
            ("/register/ab/c", Some(Route::Registration("ab/c"))),
            ("/publish", Some(Route::Publish)),
            ("/batch", Some(Route::Batch)),
            ("/batch/", None),
            ("/publish/", Some(Route::PublishTo(""))),
            ("/publish/a/b%2Fc/", Some(Route::PublishTo("a/b%2Fc/"))),
            ("/topics/a/b%2Fc", Some(Route::Topic("a/b%2Fc"))),
            ("/topics/a/b/history", Some(Route::History("a/b"))),
            ("/topics/a%2Fhistory", Some(Route::Topic("a%2Fhistory"))),
            ("/topics/history", Some(Route::Topic("history"))),
            ("/topics/", Some(Route::Topic(""))),
            ("/topics", None),
            ("/ws/ab", Some(Route::Socket("ab"))),
            ("*", Some(Route::Server)),
            ("", None),
            ("/", None),
            ("/ws", Some(Route::OpenSocket)),
            ("/ws/", Some(Route::Socket(""))),
            ("/health/", None),
            ("/Health", None),
            ("//health", None),
            ("/other/x", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn each_route_takes_its_methods_and_no_other() {
        assert!(Route::Health.takes(&Method::HEAD));
        assert!(!Route::Health.takes(&Method::POST));
        assert!(!Route::Socket("a").takes(&Method::HEAD));
        assert!(Route::Server.takes(&Method::OPTIONS) && !Route::Server.takes(&Method::GET));
        assert!(!Route::Publish.takes(&Method::from_bytes(b"PO").unwrap()));
    }
}
