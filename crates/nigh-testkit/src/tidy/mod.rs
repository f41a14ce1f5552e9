//! The house rules, checked over the whole workspace as a test; each finding says where and what to do instead.
//!
//! Every rule is a pure function of file contents, so it is tested by value. Only [`check`] reads the disk.

mod documents;
mod rules;
mod source;
mod workspace;

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// A place that breaks a house rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the workspace, with slashes.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.advice)
    }
}

/// One file of the workspace.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension();
        extension.is_some_and(|extension| extensions.iter().any(|known| extension == *known))
    }

    fn finding(&self, line: usize, advice: impl Into<String>) -> Finding {
        Finding {
            file: self.path.clone(),
            line,
            advice: advice.into(),
        }
    }
}

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", ".venv", "__pycache__"];

/// What the rules read; a file with another extension is none of their business.
const READ: [&str; 9] = ["rs", "toml", "md", "proto", "py", "mjs", "js", "sh", "json"];

/// Checks every rule over the workspace at `root`.
///
/// # Errors
/// When a file or directory cannot be read.
pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut files = Vec::new();
    collect(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut findings = rules::check(&files);
    findings.extend(workspace::check(&files));
    findings.extend(documents::check(&files));
    Ok(findings)
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            let mut file = File {
                path,
                text: String::new(),
            };
            let is_script = file.path.ends_with("/run");
            if is_script || file.has_extension(&READ) {
                file.text = fs::read_to_string(entry.path())?;
                files.push(file);
            }
        }
    }
    Ok(())
}
