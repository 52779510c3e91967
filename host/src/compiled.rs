//! The compiled component, kept beside its `.wasm`, so that only the first start after a build compiles it.

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::log::one_line;

/// The component in `source`, compiled by `engine`: read from the file that an earlier start wrote, or compiled now and kept.
///
/// # Errors
///
/// If the file cannot be read or holds no component. Failing to keep the compiled component is not an error.
pub fn load(engine: &Engine, source: &Path) -> Result<Component> {
    let wasm = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let kept = kept_at(engine, source, &wasm);
    // Processes that start meanwhile wait for the first one instead of compiling too.
    let _lock = lock(&source.with_extension("cwasm.lock"));
    if let Some(component) = read(engine, &kept) {
        return Ok(component);
    }
    let component =
        Component::new(engine, &wasm).map_err(|error| anyhow!("{}: {}", source.display(), one_line(&error)))?;
    if let Err(error) = keep(&component, &kept, source) {
        eprintln!("the compiled component is not kept, so the next start takes as long: {error:#}");
    }
    Ok(component)
}

/// Another component or another engine gets another file name.
fn kept_at(engine: &Engine, source: &Path, wasm: &[u8]) -> PathBuf {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let digest = Sha256::new().chain_update(wasm).chain_update(settings.finish().to_le_bytes()).finalize();
    let key: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    source.with_extension(format!("{key}.cwasm"))
}

/// `None` if the folder cannot be written to: then each start compiles.
fn lock(path: &Path) -> Option<File> {
    let file = File::create(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn read(engine: &Engine, kept: &Path) -> Option<Component> {
    if !kept.is_file() {
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "code from the file is run, as the code of the host itself is: both are files of this build"
    )]
    let component = unsafe { Component::deserialize_file(engine, kept) };
    component.ok()
}

/// Deletes what earlier builds left.
fn keep(component: &Component, kept: &Path, source: &Path) -> Result<()> {
    let bytes = component.serialize().map_err(|error| anyhow!(one_line(&error)))?;
    let draft = kept.with_extension("draft");
    fs::write(&draft, bytes)?;
    fs::rename(&draft, kept)?;
    for earlier in earlier(kept, source)? {
        fs::remove_file(earlier)?;
    }
    Ok(())
}

fn earlier(kept: &Path, source: &Path) -> io::Result<Vec<PathBuf>> {
    let (folder, Some(stem)) = (kept.parent().unwrap_or(Path::new(".")), source.file_stem()) else { return Ok(vec![]) };
    let is_earlier = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path != kept && name.starts_with(&format!("{}.", stem.to_string_lossy())) && name.ends_with(".cwasm")
    };
    Ok(fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_earlier).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing but the header, and the same with an empty custom section.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const OTHER: &[u8] = b"\0asm\x0d\0\x01\0\x00\x02\x01x";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("order-compiled-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn load(&self, wasm: &[u8]) -> Result<Component> {
            let source = self.0.join("order.wasm");
            fs::write(&source, wasm).unwrap();
            load(&Engine::default(), &source)
        }

        fn kept(&self) -> Vec<PathBuf> {
            let paths = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_second_start_reads_what_the_first_one_compiled() {
        let folder = Folder::new("second");
        folder.load(EMPTY).unwrap();
        let [kept] = &folder.kept()[..] else { panic!("{:?}", folder.kept()) };
        assert!(read(&Engine::default(), kept).is_some());
        let written = fs::metadata(kept).unwrap().modified().unwrap();
        folder.load(EMPTY).unwrap();
        assert_eq!(fs::metadata(kept).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn another_component_replaces_what_was_kept() {
        let folder = Folder::new("another");
        folder.load(EMPTY).unwrap();
        let first = folder.kept();
        folder.load(OTHER).unwrap();
        assert_eq!(folder.kept().len(), 1);
        assert_ne!(folder.kept(), first);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let folder = Folder::new("damaged");
        folder.load(EMPTY).unwrap();
        let kept = folder.kept().remove(0);
        fs::write(&kept, "damaged").unwrap();
        folder.load(EMPTY).unwrap();
        assert!(read(&Engine::default(), &kept).is_some());
    }

    #[test]
    fn what_is_no_component_is_refused_and_not_kept() {
        let folder = Folder::new("refused");
        assert!(folder.load(b"damaged").is_err());
        assert_eq!(folder.kept(), Vec::<PathBuf>::new());
    }
}
