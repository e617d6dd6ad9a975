//! What is shown to whom: logins and tokens as headers, and requests for tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use url::Url;

use crate::error::GetError;
use crate::login::Login;
use crate::session::AGENT;

/// Headers and, for a POST, the form of a request for a token.
pub(crate) fn token_request(
    realm: &mut Url,
    asked: &[(&str, &str)],
    login: Option<&Login>,
) -> Result<(HeaderMap, Option<String>), GetError> {
    let mut headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(AGENT))]);
    if let Some(Login::Identity(token)) = login {
        // The form of OAuth 2.0 (RFC 6749, section 6), as registries take it.
        let mut form = Url::parse("form:").map_err(|error| GetError::Usage(error.to_string()))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "dfget")
            .append_pair("refresh_token", token)
            .extend_pairs(asked);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        return Ok((headers, form.query().map(ToOwned::to_owned)));
    }
    realm.query_pairs_mut().extend_pairs(asked);
    if let Some(Login::Account { name, password }) = login {
        headers.extend(basic(name, password).map(|value| (AUTHORIZATION, value)));
    }
    Ok((headers, None))
}

/// Takes name and password out of a URL.
pub(crate) fn take_login(url: &mut Url) -> Option<HeaderValue> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (name, password) = (decode(url.username()), url.password().map(decode));
    let _ = (url.set_username(""), url.set_password(None));
    if name.is_empty() && password.is_none() {
        return None;
    }
    basic(&name, &password.unwrap_or_default())
}

pub(crate) fn basic(name: &str, password: &str) -> Option<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
}

pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

pub(crate) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_out_of_a_url() {
        let mut url = Url::parse("https://user:p%40ss@h.example/x").unwrap();
        let login = take_login(&mut url).unwrap();
        assert_eq!(url.as_str(), "https://h.example/x");
        assert_eq!(login, format!("Basic {}", STANDARD.encode("user:p@ss")).as_str());
        assert_eq!(format!("{login:?}"), "Sensitive");
        assert!(take_login(&mut url).is_none());
    }

    #[test]
    fn a_token_is_asked_for_with_the_login_there_is() {
        let asked = [("service", "r"), ("scope", "repository:a/b:pull")];
        let mut realm = Url::parse("https://auth.example/token?x=1").unwrap();
        let (headers, form) = token_request(&mut realm, &asked, None).unwrap();
        assert_eq!(realm.query(), Some("x=1&service=r&scope=repository%3Aa%2Fb%3Apull"));
        assert!(form.is_none() && !headers.contains_key(AUTHORIZATION));
        let account = Login::Account { name: "dev".to_owned(), password: "secret".to_owned() };
        let (headers, _) = token_request(&mut realm, &asked, Some(&account)).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Basic ZGV2OnNlY3JldA==");
        let mut realm = Url::parse("https://auth.example/token").unwrap();
        let identity = Login::Identity("t&t".to_owned());
        let (_, form) = token_request(&mut realm, &asked, Some(&identity)).unwrap();
        assert_eq!(
            form.as_deref(),
            Some(
                "grant_type=refresh_token&client_id=dfget&refresh_token=t%26t&service=r&scope=repository%3Aa%2Fb%3Apull"
            )
        );
        assert_eq!(realm.query(), None, "no token stands in a URL");
    }
}
