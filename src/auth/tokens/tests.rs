//! Tokens that a foreign library made (`tests/fixtures/tokens/make.py`), and what is thought of each.

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::{identity::User, topic::Topic};

#[derive(Deserialize)]
struct Vectors<'a> {
    #[serde(borrow)]
    jwks: &'a RawValue,
    tokens: HashMap<&'a str, String>,
}

/// Some day in 2026, seconds since 1970.
const NOW: u64 = 1_795_000_000;

fn vectors() -> Vectors<'static> {
    serde_json::from_str(include_str!("../../../tests/fixtures/tokens/vectors.json")).expect("it is JSON")
}

fn tokens() -> Tokens {
    let keys = Jwks::parse(vectors().jwks.get().as_bytes()).expect("it is a set");
    assert_eq!(keys.len(), 4);
    Tokens { keys, file: "jwks.json".into(), issuer: None, audience: None, leeway: Duration::from_secs(5) }
}

fn verify(tokens: &Tokens, name: &str, now: u64) -> Result<Grant, TokenError> {
    tokens.verify(vectors().tokens[name].as_bytes(), now)
}

#[test]
fn tokens_of_each_algorithm_are_taken_with_all_they_grant() {
    let topic = |name: &str| Topic::parse(name).expect("it is a topic");
    for name in ["hs256", "rs256", "es256", "eddsa", "nbf_past"] {
        let grant = verify(&tokens(), name, NOW).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&grant.user, grant.expires), (&User::number(7), 4_102_444_805), "{name}");
        for asks_for_token in [true, false] {
            let have = |name: &str| grant.may_have(&topic(name), asks_for_token);
            assert!(have("news.a") && have("scores") && !have("chat.7"), "{name}");
            let publish = |name: &str| grant.may_publish(&topic(name), asks_for_token);
            assert!(publish("chat.7") && !publish("news.a"), "{name}");
        }
        assert!(!format!("{grant:?}").contains('7'), "{name}: a user is nobody's business");
    }
    let named = verify(&tokens(), "named_sub", NOW).expect("it is right");
    assert_eq!(named.user, User::parse("ada").unwrap());
    let nothing = verify(&tokens(), "topics_null", NOW).expect("to grant nothing is right");
    for may in [Grant::may_have, Grant::may_publish] {
        assert!(may(&nothing, &topic("scores"), false) && !may(&nothing, &topic("scores"), true));
    }
}

#[test]
fn whatever_is_not_right_is_refused_by_its_reason() {
    use TokenError::*;
    for (name, why) in [
        ("hs_with_rsa_pem", Algorithm),
        ("hs_with_rsa_modulus", Algorithm),
        ("rs_of_other_key", Signature),
        ("rs_named_for_es", Algorithm),
        ("rs512", Algorithm),
        ("ps256", Algorithm),
        ("hs512", Algorithm),
        ("none", Algorithm),
        ("none_signed", Algorithm),
        ("none_mixed_case", Algorithm),
        ("no_alg", Malformed),
        ("empty_signature", Signature),
        ("other_secret", Signature),
        ("other_claims", Signature),
        ("unknown_kid", UnknownKey),
        ("no_kid", UnknownKey),
        ("crit", Critical),
        ("expired", Expired),
        ("exp_fraction", Expired),
        ("no_exp", NoExpiry),
        ("exp_text", Malformed),
        ("nbf_future", NotYet),
        ("for_us", Audience),
        ("no_sub", Subject),
        ("empty_sub", Subject),
        ("long_sub", Subject),
        ("number_sub", Malformed),
        ("topics_text", Malformed),
        ("topics_empty_name", Topics),
        ("too_long", TooLong),
        ("padded", Malformed),
        ("four_parts", Malformed),
        ("two_parts", Malformed),
    ] {
        assert_eq!(verify(&tokens(), name, NOW), Err(why), "{name}");
    }
    for text in ["", "..", "...", "a.b.c", "e30.e30.e30", "\u{e4}.\u{e4}.\u{e4}"] {
        assert_eq!(tokens().verify(text.as_bytes(), NOW), Err(Malformed), "{text}");
    }
}

#[test]
fn expiry_and_beginning_have_the_leeway_and_no_more() {
    for (now, taken) in [(999, true), (1_004, true), (1_005, false)] {
        assert_eq!(verify(&tokens(), "expired", now).is_ok(), taken, "{now}");
    }
    for (now, taken) in [(4_102_444_793, false), (4_102_444_794, true), (4_102_444_804, true)] {
        assert_eq!(verify(&tokens(), "nbf_future", now).is_ok(), taken, "{now}");
    }
}

#[test]
fn issuer_and_audience_must_be_those_that_are_said() {
    let of = |issuer: &str| Tokens { issuer: Some(issuer.into()), ..tokens() };
    assert!(verify(&of("https://id.example"), "issued", NOW).is_ok());
    for name in ["other_issuer", "hs256"] {
        assert_eq!(verify(&of("https://id.example"), name, NOW), Err(TokenError::Issuer), "{name}");
    }
    assert!(verify(&tokens(), "issued", NOW).is_ok(), "nothing is said of the issuer");
    let for_us = Tokens { audience: Some("fanfare".into()), ..tokens() };
    for name in ["for_us", "for_several"] {
        assert!(verify(&for_us, name, NOW).is_ok(), "{name}");
    }
    for name in ["for_others", "hs256"] {
        assert_eq!(verify(&for_us, name, NOW), Err(TokenError::Audience), "{name}");
    }
}

#[test]
fn the_only_key_needs_no_name() {
    let keys = br#"{"keys":[{"kty":"oct","k":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8"}]}"#;
    let tokens = Tokens { keys: Jwks::parse(keys).expect("it is a set"), ..tokens() };
    assert!(verify(&tokens, "no_kid", NOW).is_ok());
    assert_eq!(verify(&tokens, "hs256", NOW), Err(TokenError::UnknownKey), "it means another key");
}
