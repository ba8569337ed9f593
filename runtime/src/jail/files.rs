//! Landlock: what of the file system, the network and the neighbouring processes is left.

use std::{error::Error, path::PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::Access;

/// Without file-system rules that cover truncation and device ioctls there is no wall; 5 has both.
const FILES: ABI = ABI::V5;

/// Leaves only `files`. Everything that is not below one of them cannot be opened, made, moved or removed. Nothing is
/// granted of the network, and no signal or abstract socket crosses the border.
pub fn restrict(files: &[(PathBuf, Access)]) -> Result<RestrictionStatus, Box<dyn Error>> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        // What only newer kernels can deny: signals and sockets out of the jail.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::ResolveUnix)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    for (path, access) in files {
        let granted = match access {
            Access::ReadOnly | Access::Code => AccessFs::ReadFile | AccessFs::ReadDir,
            // No devices, sockets or FIFOs are made, nothing is executed. Files are linked and moved only from what is
            // writable to what is writable: a read-only tree has no `Refer`.
            Access::ReadWrite => {
                AccessFs::ReadFile
                    | AccessFs::ReadDir
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::MakeSym
                    | AccessFs::RemoveFile
                    | AccessFs::RemoveDir
                    | AccessFs::Refer
            }
        };
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, granted))?;
    }
    Ok(ruleset.restrict_self()?)
}

/// Returns whether the kernel enforces the scopes as well; an error if it enforces nothing.
pub fn scoped(status: &RestrictionStatus) -> Result<bool, String> {
    match (&status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok(effective_abi >= ABI::V6),
        _ => Err("the kernel does not enforce landlock; boot with lsm=landlock".into()),
    }
}
