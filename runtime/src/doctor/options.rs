//! Checks of the options that can be judged without asking anybody.

use super::redis::is_loopback;
use super::{Check, Outcome};
use crate::config::{AdminConfig, Config, ExternalUrl, is_example};
use crate::http::client_addr;

/// Shorter secrets can be guessed sooner than they should, bytes.
const LONG_ENOUGH: usize = 32;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "external_url",
        title: "Address for browsers",
        fix: "set UNDERSTUDY_HTTP_EXTERNAL_URL to the https:// address that browsers type",
        run: |patient| {
            let url = patient.node().config.http.external_url.as_ref();
            Box::pin(std::future::ready(external_url(url)))
        },
    },
    Check {
        code: "trusted_proxies",
        title: "Proxies before the node",
        fix: "put the address of the balancer into UNDERSTUDY_HTTP_TRUSTED_PROXIES, so that nodes know their clients",
        run: |patient| {
            let trusts = !patient.node().config.http.trusted_proxies.is_empty();
            Box::pin(std::future::ready(proxies(trusts, client_addr::ignored())))
        },
    },
    Check {
        code: "admin_port",
        title: "Who reaches the admin port",
        fix: "bind it to a loopback or private address (UNDERSTUDY_ADMIN_BIND), with TLS before it: tokens travel on it",
        run: |patient| Box::pin(std::future::ready(admin_port(&patient.node().config.admin))),
    },
    Check {
        code: "secrets",
        title: "Secrets",
        fix: "make new ones with `openssl rand -base64 48`, and put each into a file (..._FILE)",
        run: |patient| Box::pin(std::future::ready(secrets(&patient.node().config))),
    },
    Check {
        code: "options",
        title: "Warnings about options",
        fix: "change the option; docs/configuration.md says what is right",
        run: |patient| Box::pin(std::future::ready(warnings(&patient.node().config.warnings))),
    },
];

fn external_url(url: Option<&ExternalUrl>) -> Outcome {
    let Some(url) = url else {
        return Outcome::warning("not set: links and cookies are made from what each request says");
    };
    let host = url.authority.rsplit_once(':').map_or(url.authority.as_str(), |(host, _)| host);
    if url.is_https() || is_loopback(host) {
        return Outcome::ok(url.to_string());
    }
    Outcome::warning(format!("{url} is not encrypted: whoever is between can take over sessions"))
}

fn proxies(trusts: bool, ignored: u64) -> Outcome {
    match (trusts, ignored) {
        (_, 0) => Outcome::ok("no request came with forwarding headers that are not believed"),
        (false, _) => Outcome::warning(format!(
            "{ignored} requests came with forwarding headers, but no proxy is trusted: all clients seem to be the \
             balancer"
        )),
        (true, _) => Outcome::warning(format!(
            "{ignored} requests came with forwarding headers that are not believed, from a proxy that is not trusted or \
             from clients that invent them"
        )),
    }
}

fn admin_port(admin: &AdminConfig) -> Outcome {
    match admin.bind {
        None => Outcome::ok("it is off"),
        Some(address) if address.ip().is_loopback() => {
            Outcome::ok(format!("it listens on loopback only ({address})"))
        }
        Some(address) => Outcome::warning(format!(
            "it listens on {address}, without TLS: tokens can be read on the way"
        )),
    }
}

fn secrets(config: &Config) -> Outcome {
    let admin = &config.admin;
    let mut all = vec![
        ("UNDERSTUDY_ADMIN_TOKEN", admin.token.as_ref()),
        ("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", admin.operator_token.as_ref()),
        ("UNDERSTUDY_ADMIN_VIEWER_TOKEN", admin.viewer_token.as_ref()),
    ];
    all.extend(config.session.secret.iter().map(|key| ("UNDERSTUDY_SESSION_SECRET", Some(key))));
    let links = config.files.signing_keys.iter();
    all.extend(links.map(|key| ("UNDERSTUDY_FILES_SIGNING_KEYS", Some(key))));
    let redis = config.redis.as_ref().and_then(|redis| redis.targets.password.as_ref());
    let passwords = [("UNDERSTUDY_REDIS_PASSWORD", redis)];
    let example = all
        .iter()
        .chain(&passwords)
        .find(|(_, secret)| secret.is_some_and(|secret| is_example(secret.expose())));
    if let Some((name, _)) = example {
        return Outcome::critical(format!("{name} is an example that everybody knows"));
    }
    let short = all
        .iter()
        .filter(|(_, secret)| secret.is_some_and(|secret| secret.expose().len() < LONG_ENOUGH));
    let mut short: Vec<&str> = short.map(|(name, _)| *name).collect();
    short.dedup();
    if short.is_empty() {
        return Outcome::ok(format!(
            "none is an example, and keys and tokens have {LONG_ENOUGH} bytes or more"
        ));
    }
    Outcome::warning(format!("shorter than {LONG_ENOUGH} bytes: {}", short.join(", ")))
}

fn warnings(warnings: &[String]) -> Outcome {
    match warnings {
        [] => Outcome::ok("there are none"),
        warnings => Outcome::warning(warnings.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Critical, Ok as Good, Warning};
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Config {
        let vars =
            vars.iter().map(|(name, value)| (format!("UNDERSTUDY_{name}"), (*value).to_owned()));
        Config::from_vars(vars).unwrap()
    }

    #[test]
    fn h7_the_address_for_browsers_should_be_encrypted() {
        for (url, expected) in [
            ("https://shop.example", Good),
            ("http://127.0.0.1:8080", Good),
            ("http://shop.example", Warning),
            ("http://10.0.0.5:8080/app", Warning),
        ] {
            let config = config(&[("HTTP_EXTERNAL_URL", url)]);
            assert_eq!(external_url(config.http.external_url.as_ref()).verdict, expected, "{url}");
        }
        assert_eq!(external_url(None).verdict, Warning);
    }

    #[test]
    fn h7_a_proxy_that_is_not_trusted_is_noticed() {
        assert_eq!(proxies(false, 0).verdict, Good);
        assert_eq!(proxies(false, 3).verdict, Warning);
        assert_eq!(proxies(true, 3).verdict, Warning);
    }

    #[test]
    fn h7_an_admin_port_that_others_reach_is_noticed() {
        let token = ("ADMIN_TOKEN", "0123456789abcdef0123456789abcdef");
        for (bind, expected) in
            [("off", Good), ("127.0.0.1:1", Good), ("[::1]:1", Good), ("0.0.0.0:1", Warning)]
        {
            let config = config(&[("ADMIN_BIND", bind), token]);
            assert_eq!(admin_port(&config.admin).verdict, expected, "{bind}");
        }
    }

    #[test]
    fn h7_short_and_well_known_secrets_are_named_and_never_told() {
        let long = "a-long-word-that-nobody-else-knows-0123";
        for (vars, expected, named) in [
            (&[("ADMIN_TOKEN", long)][..], Good, ""),
            (&[("ADMIN_TOKEN", "canary-0123456789")], Warning, "UNDERSTUDY_ADMIN_TOKEN"),
            (
                &[("ADMIN_VIEWER_TOKEN", "changeme-changeme-changeme-changeme")],
                Critical,
                "VIEWER_TOKEN",
            ),
            (&[("REDIS_URL", "redis://:changeme@h")], Critical, "REDIS_PASSWORD"),
            (&[("REDIS_URL", "redis://:canary@h")], Good, ""),
        ] {
            let found = secrets(&config(vars));
            assert_eq!(found.verdict, expected, "{vars:?}");
            assert!(found.text.contains(named) && !found.text.contains("canary"), "{}", found.text);
        }
    }
}
