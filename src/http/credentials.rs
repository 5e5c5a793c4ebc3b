//! What a request proves of who sends it, and what that is enough for.
//!
//! A key comes as `X-Api-Key: KEY` or `Authorization: Bearer KEY`, a token as `Authorization: Bearer TOKEN`, or in the query of
//! a WebSocket. Who proves nothing where something must be proved gets 401, and so does who sends something that is not
//! known; who proves something that is not enough gets 403. As long as nothing is configured by which one could prove
//! anything, everybody may do everything, and what a request sends is not looked at.

use std::{rc::Rc, sync::Arc};

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName, ORIGIN},
};

use super::{
    answer::Refusal,
    fields::{Several, at_most_one, bearer},
};
use crate::{
    auth::{Decision, Grant, Proved, Scope, Scopes, TokenError, tokens},
    connection::unix_time,
    publication::Publisher,
    settings::Settings,
    topic::Topic,
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who sends a request, as far as it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Anybody: nothing is configured by which one could prove anything.
    Open,
    /// Somebody who proves nothing.
    Anonymous,
    /// Whoever holds the key of this name, with these scopes.
    Key { name: Arc<str>, scopes: Scopes },
    /// A user's client, by its token.
    Token(Rc<Grant>),
}

impl Caller {
    /// Of a request with these headers.
    ///
    /// # Errors
    /// 401 for a key that there is not, or a token that is not taken, whatever is asked for.
    pub(super) fn of(settings: &Settings, headers: &HeaderMap) -> Result<Self, Refusal> {
        if !settings.asks_who() {
            return Ok(Self::Open);
        }
        match presented(headers)? {
            None => Ok(Self::Anonymous),
            Some(presented) => Self::by(settings, presented),
        }
    }

    /// Of the handshake of a WebSocket, which may have a token in its query.
    ///
    /// # Errors
    /// The same, and 400 for two proofs.
    pub(super) fn of_socket(
        settings: &Settings,
        headers: &HeaderMap,
        token: Option<&str>,
    ) -> Result<Self, Refusal> {
        let Some(token) = token.filter(|_| settings.asks_who()) else { return Self::of(settings, headers) };
        if presented(headers)?.is_some() {
            return Err(Refusal::bad_request("a token is in the query or in a header, not in both"));
        }
        Self::by_token(settings, token.as_bytes())
    }

    fn by(settings: &Settings, presented: &[u8]) -> Result<Self, Refusal> {
        if let Some(key) = settings.keys.find(presented) {
            return Ok(Self::Key { name: key.name.clone(), scopes: key.scopes });
        }
        if tokens::looks_like_one(presented) {
            return Self::by_token(settings, presented);
        }
        Err(Refusal::unknown_credentials("this key is not known"))
    }

    fn by_token(settings: &Settings, token: &[u8]) -> Result<Self, Refusal> {
        let Some(tokens) = &settings.tokens else {
            return Err(Refusal::unknown_credentials("no tokens are taken here"));
        };
        match tokens.verify(token, unix_time().as_secs()) {
            Ok(grant) => Ok(Self::Token(Rc::new(grant))),
            Err(error) => Err(Refusal::unknown_credentials(error.as_str())),
        }
    }

    /// Lets pass who holds a key with this scope.
    ///
    /// # Errors
    /// 401 for who proves nothing, 403 for who proves something else.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Anonymous => Err(Refusal::unauthorized()),
            Self::Key { scopes, .. } => key_with(*scopes, scope),
            Self::Token(_) => Err(Refusal::forbidden("this needs an API key; a token is not enough")),
        }
    }

    /// Lets pass who proves anything, and everybody where those who prove nothing are let in.
    ///
    /// # Errors
    /// 401.
    pub(super) fn enter(&self, settings: &Settings) -> Result<(), Refusal> {
        match self {
            Self::Anonymous if !settings.lets_anonymous_in() => Err(Refusal::unauthorized()),
            Self::Open | Self::Anonymous | Self::Key { .. } | Self::Token(_) => Ok(()),
        }
    }

    /// Lets pass who may publish to anything at all: to what, [`Self::may_publish`] says.
    ///
    /// # Errors
    /// 401 or 403.
    pub(super) fn enter_to_publish(&self, settings: &Settings) -> Result<(), Refusal> {
        match self {
            Self::Key { scopes, .. } => key_with(*scopes, Scope::Publish),
            Self::Open | Self::Anonymous | Self::Token(_) => self.enter(settings),
        }
    }

    /// Lets pass who may publish to a topic. Asked of who has entered.
    ///
    /// # Errors
    /// 401 for who proves nothing, 403 for whose token does not grant it.
    pub(super) fn may_publish(&self, settings: &Settings, topic: &Topic) -> Result<(), Refusal> {
        // A batch may go on for longer than its token holds.
        if let Self::Token(grant) = self
            && grant.expires <= unix_time().as_secs()
        {
            return Err(Refusal::unknown_credentials(TokenError::Expired.as_str()));
        }
        let decision = self.proved().may_publish(topic, || settings.classes.needs_to_publish(topic));
        self.told(
            decision,
            ["publishing to this topic needs an API key", "the token does not let publish to this topic"],
        )
    }

    /// Lets pass who may have a topic, or look at it. Asked of who has entered.
    ///
    /// # Errors
    /// 401 for who proves nothing, 403 for whose token does not grant it.
    pub(super) fn may_subscribe(&self, settings: &Settings, topic: &Topic) -> Result<(), Refusal> {
        let decision = self.proved().may_have(topic, || settings.classes.needs_to_subscribe(topic));
        self.told(decision, ["this topic needs an API key", "the token does not grant this topic"])
    }

    /// Whether it may see everything.
    pub(super) fn is_admin(&self) -> bool {
        matches!(self, Self::Key { scopes, .. } if scopes.has(Scope::Admin))
    }

    /// Whose idempotency keys it uses.
    pub(super) fn publisher(&self) -> Publisher {
        match self {
            Self::Open | Self::Anonymous => Publisher::Anonymous,
            Self::Key { name, .. } => Publisher::ApiKey(name.clone()),
            Self::Token(grant) => Publisher::User(grant.user.clone()),
        }
    }

    fn proved(&self) -> Proved<'_> {
        match self {
            Self::Open | Self::Key { .. } => Proved::Key,
            Self::Anonymous => Proved::Nothing,
            Self::Token(grant) => Proved::Token(grant),
        }
    }

    /// What is answered to a decision, with what is said to whom a key is missing and to whose token is not enough.
    fn told(&self, decision: Decision, [needs_key, not_granted]: [&'static str; 2]) -> Result<(), Refusal> {
        match (decision, self) {
            (Decision::Allowed, _) => Ok(()),
            (_, Self::Anonymous) => Err(Refusal::unauthorized()),
            (Decision::NeedsKey, _) => Err(Refusal::forbidden(needs_key)),
            (Decision::NeedsToken | Decision::NotGranted, _) => Err(Refusal::forbidden(not_granted)),
        }
    }
}

fn key_with(scopes: Scopes, scope: Scope) -> Result<(), Refusal> {
    match scopes.has(scope) {
        true => Ok(()),
        false => Err(Refusal::forbidden(format!("the key does not have the scope `{}`", scope.as_str()))),
    }
}

/// What a request presents: the key of `X-Api-Key`, else what stands behind `Authorization: Bearer`.
fn presented(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    if let Some(key) = value(headers, &X_API_KEY)? {
        return Ok(Some(key));
    }
    Ok(value(headers, &AUTHORIZATION)?.and_then(bearer))
}

/// The value under a name that stands once at most.
fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    at_most_one(headers, name)
        .map_err(|Several| Refusal::bad_request(format!("there is more than one {name}")))
}

/// Lets pass a WebSocket that no page opens, or a page of an origin that may.
///
/// # Errors
/// 403.
pub(super) fn check_origin(settings: &Settings, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let allowed = origins.all(|origin| origin.to_str().is_ok_and(|origin| settings.origins.allows(origin)));
    if settings.origins.is_any() || allowed {
        return Ok(());
    }
    Err(Refusal::forbidden("pages of this origin may not connect here"))
}

#[cfg(test)]
mod tests {
    use hyper::{StatusCode, header::HeaderValue};

    use super::*;
    use crate::{
        auth::{ApiKey, KeyHash, Keys, Needs, PageOrigins, tokens::TopicGrants},
        classes::{Class, Classes},
        identity::User,
    };

    const KEY: &str = "one-long-secret-of-a-key";

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_str(value).expect("it is a value"));
        }
        headers
    }

    fn settings() -> Settings {
        let scopes = [Scope::Publish].into_iter().collect();
        let key = ApiKey { name: "a".into(), scopes, hash: KeyHash::of(KEY.as_bytes()), file: None };
        Settings { keys: Arc::new(Keys::new(vec![key])), ..Settings::default() }
    }

    fn caller(list: &[(&'static str, &str)]) -> Result<Caller, StatusCode> {
        Caller::of(&settings(), &headers(list)).map_err(|refusal| refusal.status)
    }

    fn key_for(scopes: &[Scope]) -> Caller {
        Caller::Key { name: "a".into(), scopes: scopes.iter().copied().collect() }
    }

    #[test]
    fn a_key_comes_in_either_header_and_whoever_sends_none_is_anonymous() {
        let key = Ok(key_for(&[Scope::Publish]));
        assert_eq!(caller(&[("x-api-key", KEY)]), key);
        for scheme in ["Bearer", "bearer", "BEARER "] {
            assert_eq!(caller(&[("authorization", &format!("{scheme} {KEY}"))]), key);
        }
        assert_eq!(caller(&[("authorization", "Basic YTpi"), ("x-api-key", KEY)]), key);
        assert_eq!(caller(&[("authorization", "Basic YTpi")]), Ok(Caller::Anonymous));
        assert_eq!(caller(&[]), Ok(Caller::Anonymous));
        assert_eq!(Caller::of(&Settings::default(), &headers(&[("x-api-key", "any")])), Ok(Caller::Open));
    }

    #[test]
    fn what_is_not_known_is_refused_and_two_of_one_header_too() {
        for value in ["", "one-long-secret-of-a-kez"] {
            assert_eq!(caller(&[("x-api-key", value)]), Err(StatusCode::UNAUTHORIZED));
            let value = format!("Bearer {value}");
            assert_eq!(caller(&[("authorization", &value)]), Err(StatusCode::UNAUTHORIZED));
        }
        for name in ["x-api-key", "authorization"] {
            assert_eq!(caller(&[(name, KEY), (name, KEY)]), Err(StatusCode::BAD_REQUEST));
        }
    }

    #[test]
    fn a_scope_is_needed_and_no_other_is_enough() {
        let key = key_for(&[Scope::Publish, Scope::Admin]);
        assert!(key.require(Scope::Publish).is_ok() && key.is_admin());
        assert_eq!(key.require(Scope::Register).unwrap_err().status, StatusCode::FORBIDDEN);
        assert_eq!(Caller::Anonymous.require(Scope::Register).unwrap_err().status, StatusCode::UNAUTHORIZED);
        assert!(Caller::Open.require(Scope::Register).is_ok() && !Caller::Open.is_admin());
    }

    /// The statuses of having, and of publishing to, a topic that is public, needs a token, needs a key; 200 for may.
    fn statuses(caller: &Caller) -> [[u16; 3]; 2] {
        let all = [Needs::Public, Needs::Token, Needs::Key].map(|needs| {
            let settings = settings();
            let class = Class {
                subscribers: needs,
                publishers: needs,
                ..Class::default_with(settings.outbox_bytes, settings.outbox_age)
            };
            let settings = Settings { classes: Arc::new(Classes::only(class)), ..settings };
            let topic = Topic::parse("a").expect("it is a topic");
            [caller.may_subscribe(&settings, &topic), caller.may_publish(&settings, &topic)]
                .map(|may| may.map_or_else(|refusal| refusal.status.as_u16(), |()| 200))
        });
        [0, 1].map(|what| all.map(|statuses| statuses[what]))
    }

    #[test]
    fn who_proves_nothing_is_asked_for_proof_and_whose_proof_is_not_enough_is_told_so() {
        let token = |list: Option<&str>| {
            let grants = list.map(|topic| TopicGrants::new(vec![topic.to_owned()]).expect("it is a list"));
            let user = User::number(7);
            Caller::Token(Rc::new(Grant {
                user,
                expires: u64::MAX,
                subscribe: grants.clone(),
                publish: grants,
            }))
        };
        for (caller, expected) in [
            (Caller::Open, [200, 200, 200]),
            (key_for(&[Scope::Publish]), [200, 200, 200]),
            (Caller::Anonymous, [200, 401, 401]),
            (token(None), [200, 403, 403]),
            (token(Some("a")), [200, 200, 403]),
            (token(Some("b")), [403, 403, 403]),
        ] {
            assert_eq!(statuses(&caller), [expected; 2], "{caller:?}");
        }
        let over = Grant { user: User::number(7), expires: 0, subscribe: None, publish: None };
        assert_eq!(statuses(&Caller::Token(Rc::new(over)))[1], [401, 401, 401]);
    }

    #[test]
    fn origins_are_looked_at_only_where_there_are_some() {
        let origins = PageOrigins::parse(["https://a.example"].into_iter()).expect("it is an origin");
        let settings = Settings { origins, ..Settings::default() };
        let check = |list: &[(&'static str, &str)]| check_origin(&settings, &headers(list)).is_ok();
        assert!(check(&[]) && check(&[("origin", "https://a.example")]));
        assert!(!check(&[("origin", "https://b.example")]) && !check(&[("origin", "null")]));
        assert!(!check(&[("origin", "https://a.example"), ("origin", "https://b.example")]));
        assert!(check_origin(&Settings::default(), &headers(&[("origin", "\u{e4}")])).is_ok());
    }
}
