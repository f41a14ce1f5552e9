//! `--fd FIELD=PATH` and `--save-fd FIELD[=PATH]`: which descriptors go with a call, and which are saved.

use std::path::PathBuf;

/// A file whose descriptor a request mentions.
#[derive(Debug, Clone)]
pub struct AttachFd {
    /// The field that gets the index.
    pub field: String,
    /// The file; `-` is standard input.
    pub path: PathBuf,
}

/// A field that mentions descriptors, and where their content goes.
#[derive(Debug, Clone)]
pub struct SaveFd {
    /// The field with the indices.
    pub field: String,
    /// Where to write; without it they are described only.
    pub path: Option<PathBuf>,
}

/// Why such an argument is refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum FdArgumentError {
    #[error("expected the name of a field, `=` and a path")]
    Attach,
    #[error("expected the name of a field, perhaps with `=` and a path")]
    Save,
}

pub(crate) fn attach(text: &str) -> Result<AttachFd, FdArgumentError> {
    match text.split_once('=') {
        Some((field, path)) if !field.is_empty() && !path.is_empty() => Ok(AttachFd {
            field: field.to_owned(),
            path: path.into(),
        }),
        _ => Err(FdArgumentError::Attach),
    }
}

pub(crate) fn save(text: &str) -> Result<SaveFd, FdArgumentError> {
    let (field, path) = match text.split_once('=') {
        Some((_, "")) => return Err(FdArgumentError::Save),
        Some((field, path)) => (field, Some(path.into())),
        None => (text, None),
    };
    if field.is_empty() {
        return Err(FdArgumentError::Save);
    }
    Ok(SaveFd {
        field: field.to_owned(),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_and_a_path() {
        let wish = attach("a.b=/x=y").unwrap();
        assert_eq!((wish.field.as_str(), wish.path), ("a.b", "/x=y".into()));
        assert_eq!(save("fd").unwrap().path, None);
        assert_eq!(save("fd=out").unwrap().path, Some("out".into()));
        for text in ["x", "=x", "x="] {
            assert!(attach(text).is_err(), "{text}");
        }
        for text in ["", "=x", "x="] {
            assert!(save(text).is_err(), "{text}");
        }
    }
}
