//! How long a registration lives, and to which connection it belongs.

use std::time::Duration;

use fanfare::{limits, settings::Settings};

use crate::support::{WebSocket, eventually, serve, shards};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);
/// Over before anyone has looked.
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn client_comes_back_on_the_same_url_with_its_last_topics() {
    serve(shards(3), |server| {
        let id = server.register(&["cats"]);
        let mut http = server.http();
        let mut client = server.connect(&id);
        client.set_topics(&["dogs", "birds"]);
        for round in 0..20 {
            match round % 3 {
                0 => client.close(),
                1 => client.reset(),
                _ => drop(client),
            }
            server.wait_until_empty();
            client = server.connect(&id);
            http.publish("cats", "left long ago");
            http.publish("dogs", "dogs");
            http.publish("birds", "birds");
            client.expect_text("dogs");
            client.expect_text("birds");
        }
        client.set_topics(&[]);
        client.close();
        server.wait_until_empty();
        let mut client = server.connect(&id);
        http.publish("dogs", "left too");
        client.set_topics(&["end"]);
        http.publish("end", "end");
        client.expect_text("end");
    });
}

#[test]
fn what_is_published_while_a_client_is_away_is_not_for_it() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        let mut http = server.http();
        server.connect(&id).close();
        server.wait_until_empty();
        http.publish("cats", "missed");
        let mut client = server.connect(&id);
        http.publish("cats", "seen");
        client.expect_text("seen");
    });
}

#[test]
fn registration_ends_with_the_grace_period() {
    let settings = Settings { registration_ttl: LONG, registration_grace: SHORT, ..shards(2) };
    serve(settings, |server| {
        let ids = [server.register(&["cats"]), server.register(&["cats"])];
        server.connect(&ids[0]).close();
        eventually("the grace period is over", || server.node().registrations() == 1);
        let refused = WebSocket::connect(server.address(), &ids[0]).expect_err("it is gone");
        refused.expect_error(404, "not_found");
        server.connect(&ids[1]);
    });
}

#[test]
fn without_grace_a_registration_ends_with_its_connection() {
    let settings = Settings { registration_ttl: LONG, registration_grace: Duration::ZERO, ..shards(2) };
    serve(settings, |server| {
        for how in 0..3 {
            let id = server.register(&["cats"]);
            let client = server.connect(&id);
            match how {
                0 => client.close(),
                1 => client.reset(),
                _ => drop(client),
            }
            eventually("it is gone", || server.node().registrations() == 0);
            WebSocket::connect(server.address(), &id).expect_err("it is gone").expect_error(404, "not_found");
        }
    });
}

#[test]
fn registration_nobody_claims_expires() {
    let settings = Settings { registration_ttl: SHORT, registration_grace: LONG, ..shards(2) };
    serve(settings, |server| {
        let mut http = server.http();
        let ids: Vec<_> = (0..10).map(|_| http.register(r#"{"user_id":1}"#)).collect();
        eventually("they expire", || server.node().registrations() == 0);
        for id in ids {
            WebSocket::connect(server.address(), &id).expect_err("it is gone").expect_error(404, "not_found");
        }
    });
}

#[test]
fn registration_that_is_connected_does_not_expire() {
    let settings =
        Settings { registration_ttl: Duration::from_secs(2), registration_grace: LONG, ..shards(2) };
    serve(settings, |server| {
        let connected = server.register(&["cats"]);
        let mut client = server.connect(&connected);
        server.register(&["cats"]);
        eventually("the one never claimed expires", || server.node().registrations() == 1);
        server.http().publish("cats", "x");
        client.expect_text("x");
        client.close();
        server.wait_until_empty();
        server.connect(&connected);
    });
}

#[test]
fn second_connection_replaces_the_first() {
    serve(shards(3), |server| {
        let id = server.register(&["cats"]);
        let mut http = server.http();
        let mut current = server.connect(&id);
        current.set_topics(&["dogs"]);
        for round in 1..=20 {
            let mut next = server.connect(&id);
            current.expect_close(4409, "replaced");
            let message = round.to_string();
            http.publish("dogs", &message);
            next.expect_text(&message);
            current = next;
            assert_eq!(server.total().closed_replaced, round);
        }
        drop(current);
        server.wait_until_empty();
        server.connect(&id);
    });
}

#[test]
fn replaced_connection_no_longer_changes_the_registration() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        for _ in 0..50 {
            let mut first = server.connect(&id);
            let mut second = server.connect(&id);
            // Too late, as far as the registration is concerned. The connection may even be gone.
            let late = crate::support::websocket::frame(0x81, br#"{"topics":["dogs"]}"#);
            let _gone = first.wire().try_write(&late);
            first.read_to_end();
            server.http().publish("cats", "x");
            second.expect_text("x");
            drop((first, second));
            server.wait_until_empty();
        }
    });
}

#[test]
fn more_registrations_than_allowed_are_refused() {
    let settings = Settings { registrations_max: 3, ..shards(2) };
    serve(settings, |server| {
        let mut http = server.http();
        let ids: Vec<_> = (0..3).map(|_| http.register(r#"{"user_id":1}"#)).collect();
        let answer = http.post("/register", r#"{"user_id":1}"#);
        answer.expect_error(503, "full");
        assert_eq!(answer.header("access-control-expose-headers"), Some("Retry-After, X-Request-Id"));
        assert_eq!(http.delete(&ids[0]).status, 200);
        http.register(r#"{"user_id":1}"#);
        http.post("/register", r#"{"user_id":1}"#).expect_error(503, "full");
        server.connect(&ids[1]);
    });
}

#[test]
fn registering_and_unregistering_without_end_is_bounded_by_the_ttl() {
    let settings = Settings { registrations_max: 3, registration_ttl: Duration::from_secs(1), ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let mut taken = 0;
        let refused = loop {
            let answer = http.post("/register", r#"{"user_id":1}"#);
            if answer.status != 200 {
                break answer;
            }
            taken += 1;
            assert_eq!(http.delete(&answer.id()).status, 200);
            assert!(taken < 10_000, "what a registration leaves behind is not bounded");
        };
        refused.expect_error(503, "full");
        assert!(taken >= 3 * limits::DEADLINES_PER_REGISTRATION, "{taken}");
        eventually("what they left behind has come up", || {
            http.post("/register", r#"{"user_id":1}"#).status == 200
        });
    });
}
