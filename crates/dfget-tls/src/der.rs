//! The few DER encodings (ITU-T X.690) that a leaf certificate needs.
//!
//! Leaves are encoded here so that the issuer name can be copied from the CA byte for byte: clients
//! compare names as bytes, and a library that parses a name into fields and writes it anew loses
//! repeated fields (`DC=org, DC=example`) and string types.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// INTEGER
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF8String
pub(crate) const UTF8_STRING: u8 = 0x0c;
/// UTCTime
const UTC_TIME: u8 = 0x17;
/// GeneralizedTime
const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE
const SEQUENCE: u8 = 0x30;
/// SET
const SET: u8 = 0x31;
/// BOOLEAN TRUE, complete.
pub(crate) const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// One value: tag, length in the shortest form, content.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(content.len() + 4);
    encoded.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => encoded.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let significant = bytes.iter().skip_while(|byte| **byte == 0);
            let count = significant.clone().count();
            encoded.push(0x80 | u8::try_from(count).expect("a usize has at most 8 bytes"));
            encoded.extend(significant);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

/// A SEQUENCE of values that are encoded already.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// A SET of one value that is encoded already.
pub(crate) fn set_of_one(part: &[u8]) -> Vec<u8> {
    value(SET, part)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bit_string(content: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], content].concat())
}

/// A context-specific, constructed value `[number]`, as explicit tags are.
pub(crate) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    value(0xa0 | number, content)
}

/// A context-specific, primitive value `[number]`, as implicit tags of strings are.
pub(crate) fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    value(0x80 | number, content)
}

/// A validity time: UTCTime through 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
pub(crate) fn time(time: Timestamp) -> Vec<u8> {
    let civil = time.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&civil.year()) {
        value(UTC_TIME, civil.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        value(GENERALIZED_TIME, civil.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(value(OCTET_STRING, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(value(OCTET_STRING, &[0; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(value(OCTET_STRING, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(value(OCTET_STRING, &[0; 0xff])[..3], [4, 0x81, 0xff]);
        assert_eq!(value(OCTET_STRING, &[0; 0x100])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let last_short: Timestamp = "2049-12-31T23:59:59Z".parse().expect("a timestamp");
        let first_long: Timestamp = "2050-01-01T00:00:00Z".parse().expect("a timestamp");
        assert_eq!(time(last_short), value(UTC_TIME, b"491231235959Z"));
        assert_eq!(time(first_long), value(GENERALIZED_TIME, b"20500101000000Z"));
    }
}
