//! The key file: the key that signs checkpoints, and the journal's name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};

use super::checkpoint::{Checkpoint, PublicKey, is_name, key_id, signature_line};

/// The key of a journal, which is also its name.
pub struct Key {
    name: String,
    key: SigningKey,
}

/// What went wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot use the key file `{path}`: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("`{0}` holds no signing key: restore it from a backup")]
    Malformed(PathBuf),
}

impl Key {
    /// Reads a key file. Returns none if there is no such file. Blocks.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        match fs::read_to_string(path) {
            Ok(text) => parse(&text).map(Some).ok_or_else(|| KeyError::Malformed(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeyError::Io { path: path.to_owned(), error }),
        }
    }

    /// Makes up a name and a key and writes them to `path`, whole or not at all. Blocks.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let create = || {
            let (id, seed) = (random::<16>()?, random::<32>()?);
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let key = Self { name: format!("palisade/{id}"), key: SigningKey::from_bytes(&seed) };
            write_new(path, key.to_text().as_bytes()).map(|()| key)
        };
        create().map_err(|error| KeyError::Io { path: path.to_owned(), error })
    }

    /// Returns the key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.name.clone(), self.key.verifying_key())
    }

    /// Returns the signed checkpoint of a tree.
    pub fn sign(&self, size: u64, root: super::merkle::Hash) -> String {
        let text = Checkpoint { origin: self.name.clone(), size, root }.text();
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let id = key_id(&self.name, &self.key.verifying_key());
        format!("{text}\n{}", signature_line(&self.name, id, &signature))
    }

    /// The form in which other tools for signed notes keep their keys.
    fn to_text(&self) -> String {
        let id = u32::from_be_bytes(key_id(&self.name, &self.key.verifying_key()));
        let seed = [&[1], self.key.as_bytes().as_slice()].concat();
        format!("PRIVATE+KEY+{}+{id:08x}+{}\n", self.name, STANDARD.encode(seed))
    }
}

fn parse(text: &str) -> Option<Key> {
    let mut parts = text.trim_end().strip_prefix("PRIVATE+KEY+")?.splitn(3, '+');
    let (name, id, seed) = (parts.next()?, parts.next()?, parts.next()?);
    let seed = STANDARD.decode(seed).ok()?;
    let [1, seed @ ..] = seed.as_slice() else { return None };
    let key = SigningKey::from_bytes(seed.try_into().ok()?);
    let right = is_name(name) && id == format!("{:08x}", u32::from_be_bytes(key_id(name, &key.verifying_key())));
    right.then(|| Key { name: name.to_owned(), key })
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Fewer than 256 bytes come at once or not at all.
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if got == N { Ok(bytes) } else { Err(io::Error::other("the system gave too few random bytes")) }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half_done = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half_done)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces a key that is there.
    fs::hard_link(&half_done, path)?;
    fs::remove_file(&half_done)?;
    sync_folder_of(path)
}

/// Makes the names in a file's folder durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
