//! `POST /register` and `DELETE /register/{id}`.

use fanfare::{limits, settings::Settings};

use crate::support::{Http, WebSocket, serve, shards};

#[test]
fn registering_answers_with_a_url_that_holds_a_secret_uuid_v4() {
    serve(shards(2), |server| {
        let answer = server.http().post("/register", r#"{"user_id":1}"#);
        let id = answer.id();
        assert_eq!(answer.text(), format!(r#"{{"url":"ws://{}/ws/{id}"}}"#, server.address()));
        assert!(id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        assert_eq!(&id[12..13], "4", "{id}");
        assert!("89ab".contains(&id[16..17]), "{id}");
    });
}

#[test]
fn user_may_register_many_clients() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let mut ids: Vec<_> = (0..20).map(|_| http.register(r#"{"user_id":1}"#)).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20);
        assert_eq!(server.node().registrations(), 20);
    });
}

#[test]
fn user_id_is_an_integer_or_a_short_text() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let longest = format!(r#""{}""#, "u".repeat(limits::USER_BYTES_MAX));
        for good in ["0", "1", "18446744073709551615", r#""1""#, r#""ann""#, r#""größe \u0000""#, &longest]
        {
            http.register(&format!(r#"{{"user_id":{good}}}"#));
        }
        let too_long = format!(r#""{}""#, "u".repeat(limits::USER_BYTES_MAX + 1));
        for bad in
            ["-1", "1.5", "1e3", "18446744073709551616", r#""""#, "null", "true", "[]", "{}", &too_long]
        {
            let answer = http.post("/register", &format!(r#"{{"user_id":{bad}}}"#));
            answer.expect_error(400, "bad_request");
        }
        http.post("/register", r#"{"topics":["a"]}"#).expect_error(400, "bad_request");
    });
}

#[test]
fn topics_are_the_default_ones_or_those_given_each_once() {
    let settings = Settings { default_topics: topics(&["cats", "news"]), ..shards(2) };
    serve(settings, |server| {
        let mut http = server.http();
        let by_default = http.register(r#"{"user_id":1}"#);
        let given = http.register(r#"{"user_id":1,"topics":["a","b","a"]}"#);
        let none = http.register(r#"{"user_id":1,"topics":[]}"#);
        let mut clients = [&by_default, &given, &none].map(|id| server.connect(id));
        for topic in ["cats", "news", "a", "b"] {
            http.publish(topic, topic);
        }
        for (client, mine) in clients.iter_mut().zip([&["cats", "news"][..], &["a", "b"], &[]]) {
            mine.iter().for_each(|topic| client.expect_text(topic));
            client.set_topics(&["end"]);
        }
        http.publish("end", "end");
        clients.iter_mut().for_each(|client| client.expect_text("end"));
    });
}

#[test]
fn list_of_topics_is_bounded_and_each_is_checked() {
    serve(Settings { max_topics_per_client: 3, ..shards(2) }, |server| {
        let mut http = server.http();
        let longest = "t".repeat(limits::TOPIC_BYTES_MAX);
        let too_long = format!(r#"["{longest}t"]"#);
        for good in [r#"["a","b","c","a","b","c","c"]"#, r#"["größe 🐈/+%"]"#, &format!(r#"["{longest}"]"#)]
        {
            http.register(&format!(r#"{{"user_id":1,"topics":{good}}}"#));
        }
        let bads = [r#"["a","b","c","d"]"#, r#"[""]"#, r#"["a\nb"]"#, r#"[1]"#, r#""a""#, "null", &too_long];
        for bad in bads {
            let answer = http.post("/register", &format!(r#"{{"user_id":1,"topics":{bad}}}"#));
            answer.expect_error(400, "bad_request");
        }
        assert_eq!(server.node().registrations(), 3, "what was refused left nothing behind");
    });
}

#[test]
fn body_that_is_no_registration_is_refused_and_the_connection_goes_on() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for bad in ["", "{", "[]", "1", "{}", r#"{"user_id":1}x"#, r#"{"user_id":1,"user_id":1}"#] {
            http.post("/register", bad).expect_error(400, "bad_request");
        }
        http.post_as("/register", None, b"{\"user_id\":\"\xff\"}").expect_error(400, "bad_request");
        http.register(r#"{"user_id":1,"of a later version":{"x":[1]}}"#);
    });
}

#[test]
fn body_is_json_or_says_nothing_of_what_it_is() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let body = br#"{"user_id":1}"#;
        for good in [None, Some("application/json; charset=utf-8"), Some("application/vnd.x+json")] {
            http.post_as("/register", good, body).id();
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"] {
            http.post_as("/register", Some(bad), body).expect_error(415, "unsupported_media_type");
        }
    });
}

#[test]
fn url_names_the_host_by_which_the_client_came() {
    serve(shards(2), |server| {
        for host in ["live.example:8443", "localhost", "[::1]:80"] {
            let answer = register_naming(&mut server.http(), Some(host));
            assert_eq!(answer, format!("ws://{host}/ws/"));
        }
        let mut http = server.http();
        http.send("POST /register HTTP/1.0\r\nContent-Length: 13\r\n\r\n{\"user_id\":1}");
        assert!(http.answer().text().starts_with(&format!(r#"{{"url":"ws://{}/ws/"#, server.address())));
        http.expect_end();

        for bad in ["a b", "a/b", "user@a", "a:70000", ""] {
            let mut http = server.http();
            http.send(format!(
                "POST /register HTTP/1.1\r\nHost: {bad}\r\nContent-Length: 13\r\n\r\n{{\"user_id\":1}}"
            ));
            http.answer().expect_error(400, "bad_request");
        }
        let mut http = server.http();
        http.send("POST /register HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"user_id\":1}");
        http.answer().expect_error(400, "bad_request");
    });
}

#[test]
fn public_url_takes_the_place_of_the_host() {
    let settings = Settings { public_url: Some("wss://live.example/app".into()), ..shards(2) };
    serve(settings, |server| {
        let url = register_naming(&mut server.http(), Some("elsewhere.example"));
        assert_eq!(url, "wss://live.example/app/ws/");
        let url = register_naming(&mut server.http(), None);
        assert_eq!(url, "wss://live.example/app/ws/");
    });
}

#[test]
fn unregistering_takes_the_registration_away() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let id = http.register(r#"{"user_id":1}"#);
        let answer = http.delete(&id);
        assert_eq!((answer.status, answer.text()), (200, "{}"));
        assert_eq!(server.node().registrations(), 0);
        let refused = WebSocket::connect(server.address(), &id).expect_err("it is gone");
        refused.expect_error(404, "not_found");
        assert_eq!(http.delete(&id).status, 200, "gone is gone");
    });
}

#[test]
fn unregistering_takes_any_id_that_could_be_one() {
    serve(shards(2), |server| {
        let mut http = server.http();
        assert_eq!(http.delete("0123456789abcdef0123456789abcdef").status, 200);
        for bad in ["", "1", "0123456789abcdef0123456789abcdeg", "01234567-89ab-cdef-0123-456789abcdef"] {
            http.delete(bad).expect_error(404, "not_found");
        }
    });
}

#[test]
fn unregistering_a_connected_client_closes_it_behind_what_it_is_owed() {
    serve(shards(3), |server| {
        let mut http = server.http();
        for round in 0..20 {
            let id = server.register(&["cats"]);
            let mut client = server.connect(&id);
            let texts: Vec<_> = (0..10).map(|n| format!("{round} {n}")).collect();
            texts.iter().for_each(|text| http.publish("cats", text));
            assert_eq!(http.delete(&id).status, 200);
            texts.iter().for_each(|text| client.expect_text(text));
            client.expect_close(1000, "unregistered");
            WebSocket::connect(server.address(), &id).expect_err("it is gone").expect_error(404, "not_found");
        }
        assert_eq!(server.total().closed_unregistered, 20);
    });
}

/// What the URL of a new registration begins with. Only HTTP/1.0 knows requests that name no host.
fn register_naming(http: &mut Http, host: Option<&str>) -> String {
    let version = if host.is_some() { "1.1" } else { "1.0" };
    let host = host.map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
    let body = "Content-Length: 13\r\n\r\n{\"user_id\":1}";
    http.send(format!("POST /register HTTP/{version}\r\n{host}{body}"));
    let answer = http.answer();
    let id = answer.id();
    let json = answer.json();
    let url = json["url"].as_str().expect("it is a text");
    url.strip_suffix(&id).expect("the id comes last").to_owned()
}

fn topics(names: &[&str]) -> std::sync::Arc<[fanfare::topic::Topic]> {
    names.iter().map(|name| fanfare::topic::Topic::parse(name).expect("a topic")).collect()
}
