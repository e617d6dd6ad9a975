//! Lists of images: one a line, `#` begins a remark.

/// A line that holds more than one word.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: `{text}` is more than one word; write one image a line, and remarks behind #")]
pub struct ListError {
    /// Counted from 1.
    pub line: usize,
    /// What stands there, at most 60 characters of it.
    pub text: String,
}

/// The references of a list, each once, in their order.
///
/// # Errors
/// [`ListError`] with the first line that is none.
pub fn images_of_list(text: &str) -> Result<Vec<String>, ListError> {
    let mut images: Vec<String> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // An image's name holds no blank, so a `#` behind one begins a remark; others may be part of a URL.
        let line = line.split_once(" #").map_or(line, |(before, _)| before).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.split_whitespace().nth(1).is_some() {
            let text = line.chars().take(60).collect();
            return Err(ListError { line: number + 1, text });
        }
        if !images.iter().any(|image| image == line) {
            images.push(line.to_owned());
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_image_a_line_and_remarks() {
        let text = "# images of the course\r\n\noras://r/a:1\n  docker://b:2   # the base\noras://r/a:1\nhttps://h/x.sif#frag\n";
        assert_eq!(images_of_list(text).unwrap(), ["oras://r/a:1", "docker://b:2", "https://h/x.sif#frag"]);
        assert_eq!(images_of_list("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_line_of_two_words_is_told() {
        let error = images_of_list("docker://a\ndocker://b docker://c\n").unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "docker://b docker://c"));
    }
}
