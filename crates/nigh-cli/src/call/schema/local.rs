//! Descriptors from files: `.proto` sources compiled here, or a set that a compiler wrote.
//!
//! Trap: the compiler names a file relative to the first folder that holds it, so the order of folders matters.

use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;

use super::SchemaError;

/// Compiles `files`; imports are looked for in `imports`, in the files' own folders and among Google's well-known types.
pub(super) fn compile(
    files: &[PathBuf],
    imports: &[PathBuf],
) -> Result<DescriptorPool, SchemaError> {
    let mut folders = imports.to_vec();
    for file in files {
        // A missing file is better reported as such than as one outside of every folder.
        if let Err(source) = std::fs::metadata(file) {
            if !imports.iter().any(|folder| folder.join(file).exists()) {
                return Err(SchemaError::File {
                    path: file.clone(),
                    source,
                });
            }
            continue;
        }
        let parent = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new(".")).to_owned();
        if !folders.contains(&folder) && !imports.iter().any(|known| file.starts_with(known)) {
            folders.push(folder);
        }
    }
    let compiled = || -> Result<DescriptorPool, protox::Error> {
        let mut compiler = protox::Compiler::new(&folders)?;
        compiler.include_imports(true).open_files(files)?;
        Ok(compiler.descriptor_pool())
    };
    compiled().map_err(|error| SchemaError::Proto(Box::new(error)))
}

/// Reads a serialised `FileDescriptorSet`.
pub(super) fn read_set(path: &Path) -> Result<DescriptorPool, SchemaError> {
    let bytes = std::fs::read(path).map_err(|source| SchemaError::File {
        path: path.to_owned(),
        source,
    })?;
    DescriptorPool::decode(bytes.as_slice()).map_err(|source| SchemaError::NotASet {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const SERVICE: &str = r#"syntax = "proto3"; package a; import "types/t.proto";
        service S { rpc M(t.T) returns (t.T); }"#;
    const TYPES: &str = r#"syntax = "proto3"; package t; message T { int32 n = 1; }"#;

    #[test]
    fn imports_are_found_in_given_folders_and_beside_the_file() {
        let one = folder(&[("s.proto", SERVICE), ("types/t.proto", TYPES)]);
        let pool = compile(&[one.path().join("s.proto")], &[]).unwrap();
        assert!(pool.get_service_by_name("a.S").is_some());

        let two = folder(&[("api/s.proto", SERVICE), ("lib/types/t.proto", TYPES)]);
        let file = two.path().join("api/s.proto");
        let error = compile(std::slice::from_ref(&file), &[]).unwrap_err();
        assert!(error.to_string().contains("types/t.proto"), "{error}");
        assert!(error.hint().unwrap().contains("-I"));
        compile(&[file], &[two.path().join("lib")]).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let files = folder(&[
            ("bad.proto", "syntax = \"proto3\";\nmessage {"),
            ("set", "no set"),
        ]);
        let error = compile(&[files.path().join("none.proto")], &[]).unwrap_err();
        assert!(error.to_string().contains("none.proto"), "{error}");
        let error = compile(&[files.path().join("bad.proto")], &[]).unwrap_err();
        assert!(error.to_string().contains("bad.proto:2"), "{error}");
        let error = read_set(&files.path().join("set")).unwrap_err();
        assert!(error.hint().unwrap().contains("protoc"), "{error}");
        let error = read_set(&files.path().join("none")).unwrap_err();
        assert!(matches!(error, SchemaError::File { .. }));
    }
}
