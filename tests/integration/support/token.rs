//! Tokens that tests sign themselves, with a secret that the server is given, and settings of such a server.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare::{
    auth::{Tokens, tokens::Jwks},
    classes::{Class, Classes, Needs, Which},
    settings::Settings,
};
use ring::hmac;
use serde_json::{Value, json};

const SECRET: &[u8; 32] = b"a secret of thirty-two bytes, so";

/// The set with the key.
pub(crate) fn jwks() -> String {
    json!({"keys": [{"kty": "oct", "kid": "k", "k": URL_SAFE_NO_PAD.encode(SECRET)}]}).to_string()
}

/// Settings of a server that takes these tokens.
pub(crate) fn taking_tokens(settings: Settings) -> Settings {
    let tokens = Tokens {
        keys: Jwks::parse(jwks().as_bytes()).expect("it is a set"),
        file: "jwks.json".into(),
        issuer: None,
        audience: None,
        leeway: Duration::ZERO,
    };
    Settings { tokens: Some(Arc::new(tokens)), ..settings }
}

/// Settings of a server on which the begin of a topic says what its subscribers and its publishers need: `pt.x` anybody may have,
/// and who has a token for it may publish to it.
pub(crate) fn ruled(settings: Settings) -> Settings {
    let all = [Needs::Public, Needs::Token, Needs::Key];
    let (mut further, mut rules) = (Vec::new(), Vec::new());
    let default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    for subscribers in all {
        for publishers in all {
            let name = format!("{}{}", &subscribers.as_str()[..1], &publishers.as_str()[..1]);
            rules.push((Which::Prefix(format!("{name}.").into()), name.clone()));
            further.push(Class { name: name.into(), subscribers, publishers, ..default.clone() });
        }
    }
    let classes = Classes::new(default, further, rules).expect("they fit together");
    Settings { classes: Arc::new(classes), ..settings }
}

/// A token with these claims, which hold as they are.
pub(crate) fn sign(claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "HS256", "kid": "k", "typ": "JWT"})), encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token of a user that grants topics to have and to publish to, for an hour; of what is empty it says nothing.
pub(crate) fn token(user: &str, topics: &[&str], publish: &[&str]) -> String {
    let mut claims = json!({"sub": user, "exp": now() + 3_600});
    for (name, list) in [("topics", topics), ("publish", publish)] {
        if !list.is_empty() {
            claims[name] = json!(list);
        }
    }
    sign(&claims)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}
