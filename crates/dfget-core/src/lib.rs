//! Pure words and maths: ids, pieces, ranges, digests, URLs, rules.
