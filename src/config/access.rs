//! The options that say who is let in: origins, tokens, and where a server may listen that asks nothing.
//!
//! The key set that `jwks` names is read here, at start and at each reload.

use std::{net::SocketAddr, path::Path, sync::Arc};

use super::{
    checks::{Refused, set},
    options::{AccessOptions, Names},
};
use crate::{
    auth::{PageOrigins, Tokens, tokens::Jwks},
    bounded_file, limits,
    settings::Settings,
    units::Span,
};

/// Checks these options, and puts them into the settings.
pub(super) fn check(options: AccessOptions, settings: &mut Settings) -> Result<(), Refused> {
    set(&mut settings.anonymous, options.anonymous);
    set(&mut settings.insecure_open, options.insecure_open);
    set(&mut settings.token_leeway, options.token_leeway.map(|Span(leeway)| leeway));
    if let Some(Names(origins)) = options.origins {
        if origins.len() > limits::ORIGINS_MAX {
            let allowed = format!("at most {} origins are allowed", limits::ORIGINS_MAX);
            return Err(Refused::new("origins", origins.len(), allowed));
        }
        settings.origins = PageOrigins::parse(origins.iter().map(String::as_str))
            .map_err(|(origin, error)| Refused::new("origins", origin, error))?;
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (issuer, audience) = (given(options.token_issuer), given(options.token_audience));
    let Some(file) = given(options.jwks) else {
        return match [("token_issuer", issuer), ("token_audience", audience)] {
            [(option, Some(text)), _] | [_, (option, Some(text))] => {
                Err(Refused::new(option, text, "it goes with --jwks, without which no tokens are taken"))
            }
            _ => Ok(()),
        };
    };
    let refused = |why: String| Refused::secret("jwks", &file, why);
    let text = bounded_file::read_text(Path::new(&file), limits::JWKS_FILE_BYTES)
        .map_err(|why| refused(format!("the keys cannot be read: {why}")))?;
    let keys = Jwks::parse(text.as_bytes()).map_err(|error| refused(error.to_string()))?;
    let leeway = settings.token_leeway;
    settings.tokens = Some(Arc::new(Tokens { keys, file: file.into(), issuer, audience, leeway }));
    Ok(())
}

/// Refuses to serve everybody who reaches an address where others than this machine can.
pub(super) fn check_open(listen: SocketAddr, settings: &Settings) -> Result<(), Refused> {
    if listen.ip().is_loopback() || settings.asks_who() || settings.insecure_open {
        return Ok(());
    }
    let why = "others reach this address, and neither keys nor --jwks are configured, so anybody could register and publish. \
               Add [[keys]] to the configuration file (`fanfare key` makes one), listen on 127.0.0.1, or, if something else \
               keeps strangers out, say --insecure-open";
    Err(Refused::new("listen", listen, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: AccessOptions) -> String {
        let refused = check(options, &mut Settings::default()).expect_err("it is refused");
        format!("{} {} {}", refused.option, refused.value.unwrap_or_default(), refused.allowed)
    }

    #[test]
    fn what_says_something_of_tokens_needs_keys_for_them() {
        let text = || Some("x".to_owned());
        let issuer = refused(AccessOptions { token_issuer: text(), ..Default::default() });
        assert!(issuer.starts_with("token_issuer x it goes with --jwks"), "{issuer}");
        let audience = refused(AccessOptions { token_audience: text(), ..Default::default() });
        assert!(audience.starts_with("token_audience x it goes with --jwks"), "{audience}");
        let jwks = refused(AccessOptions { jwks: Some("none/there".into()), ..Default::default() });
        assert!(jwks.starts_with("jwks  the keys cannot be read"), "{jwks}");
        let empty = AccessOptions {
            jwks: Some(String::new()),
            token_issuer: Some(String::new()),
            ..Default::default()
        };
        assert!(check(empty, &mut Settings::default()).is_ok());
    }

    #[test]
    fn origins_are_bounded_and_one_that_is_none_is_shown() {
        let origins = |list: Vec<String>| AccessOptions { origins: Some(Names(list)), ..Default::default() };
        let error = refused(origins(vec!["https://a.example".into(), "*".into()]));
        assert!(error.starts_with("origins * an origin is a scheme and a host"), "{error}");
        let many = (0..=limits::ORIGINS_MAX).map(|n| format!("https://a{n}"));
        assert!(refused(origins(many.collect())).starts_with("origins 257 at most 256"));
    }
}
