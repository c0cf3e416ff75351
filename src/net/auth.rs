//! Credentials of a request.
//!
//! Guarantees: no message and no debug output contains them ([`crate::codec::secret`]).

use crate::codec::secret::Secret;
use hyper::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

/// How Tailwater authenticates itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A user and a password.
    Basic(Basic),
    /// A token, sent as `Authorization: Bearer`.
    Bearer(Secret),
    /// An encoded API key of Elasticsearch, sent as `Authorization: ApiKey`.
    ApiKey(Secret),
}

/// Credentials for HTTP basic authentication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user name, without a colon.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Auth {
    /// The value of the header `Authorization`. An error says what is wrong without showing the credentials.
    pub fn header(&self) -> Result<HeaderValue, &'static str> {
        let text = match self {
            Auth::Basic(Basic { user, .. }) if user.contains(':') => return Err("the user contains a colon"),
            Auth::Basic(Basic { user, password }) => {
                format!("Basic {}", base64(format!("{user}:{}", password.expose()).as_bytes()))
            }
            Auth::Bearer(key) | Auth::ApiKey(key) if key.expose().is_empty() => {
                return Err("the token or key is empty");
            }
            Auth::Bearer(key) if names_scheme(key, "Bearer") => {
                return Err("the token begins with `Bearer`, which is added: leave it out");
            }
            Auth::ApiKey(key) if names_scheme(key, "ApiKey") => {
                return Err("the key begins with `ApiKey`, which is added: leave it out");
            }
            Auth::Bearer(token) => format!("Bearer {}", token.expose()),
            Auth::ApiKey(key) => format!("ApiKey {}", key.expose()),
        };
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| "it contains a character that is not allowed in a header")?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Whether a token repeats the scheme that is written before it. No token has a space.
fn names_scheme(token: &Secret, scheme: &str) -> bool {
    token.expose().split_once(' ').is_some_and(|(first, _)| first.trim_end_matches(':').eq_ignore_ascii_case(scheme))
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let auth = |json: &str| serde_json::from_str::<Auth>(json).expect("credentials");
        let basic = auth(r#"{"basic": {"user": "u", "password": "hush"}}"#);
        assert_eq!(basic.header().expect("a header").as_bytes(), b"Basic dTpodXNo");
        let bearer = auth(r#"{"bearer": "hush"}"#);
        assert_eq!(bearer.header().expect("a header").as_bytes(), b"Bearer hush");
        assert_eq!(auth(r#"{"api_key": "aWQ6a2V5"}"#).header().expect("a header").as_bytes(), b"ApiKey aWQ6a2V5");
        for shown in [format!("{basic:?}"), format!("{bearer:?}"), format!("{:?}", bearer.header())] {
            assert!(!shown.contains("hush") && !shown.contains("dTpodXNo"), "{shown}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused() {
        let auth = |json: &str| serde_json::from_str::<Auth>(json).expect("credentials").header().expect_err("refused");
        assert!(auth(r#"{"basic": {"user": "a:b", "password": "x"}}"#).contains("colon"));
        assert!(auth(r#"{"bearer": "a\nb"}"#).contains("character"));
        assert!(auth(r#"{"bearer": ""}"#).contains("empty"));
        for twice in [r#"{"bearer": "Bearer hush"}"#, r#"{"bearer": "bearer hush"}"#, r#"{"api_key": "ApiKey hush"}"#] {
            let what = auth(twice);
            assert!(what.contains("which is added") && !what.contains("hush"), "{what}");
        }
    }
}
