use std::convert::Infallible;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use proptest::prelude::*;
use sha2_11::Sha256;

use super::Fixture;
use crate::journal::{
    Checkpoint, Hash, ReadError,
    merkle::{Frontier, Node},
    proof,
};

type Oracle = MemoryBackedTree<Sha256, Vec<u8>>;

/// A tree, and the same one by somebody else.
fn trees(size: u64) -> (Frontier, Vec<Node>, Oracle) {
    let (mut frontier, mut nodes, mut oracle) = (Frontier::empty(), Vec::new(), Oracle::new());
    for n in 0..size {
        let bytes = n.to_be_bytes();
        let hash = Hash::leaf(&bytes);
        nodes.push(Node { level: 0, position: n, hash });
        frontier.push(hash, |node| nodes.push(node));
        oracle.push(bytes.to_vec());
    }
    (frontier, nodes, oracle)
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

fn root(hash: Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new(hash.0.into(), size)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roots_and_proofs_are_those_of_another_implementation(
        size in 1_u64..600, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
    ) {
        let (frontier, nodes, oracle) = trees(size);
        prop_assert_eq!(frontier.root().0.to_vec(), oracle.root().as_bytes().to_vec());

        let mut subtree = |level, position| -> Result<Hash, Infallible> {
            Ok(nodes.iter().find(|node| (node.level, node.position) == (level, position)).unwrap().hash)
        };
        prop_assert_eq!(proof::root_at(size, &mut subtree), Ok(frontier.root()));
        let position = a.index(size as usize);
        let inclusion = proof::inclusion(position as u64, size, &mut subtree).unwrap();
        let expected = oracle.prove_inclusion(position);
        prop_assert_eq!(bytes(&inclusion), expected.as_bytes());
        let old = b.index(size as usize) as u64 + 1;
        let consistency = proof::consistency(old, size, &mut subtree).unwrap();
        let expected = oracle.prove_consistency((size - old) as usize);
        prop_assert_eq!(bytes(&consistency), expected.as_bytes());
    }
}

#[test]
fn the_tree_without_records_has_the_root_of_the_standard() {
    let root = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Frontier::empty().root().to_string(), root);
}

#[test]
fn a_frontier_has_as_many_hashes_as_its_size_has_ones() {
    assert!(Frontier::new(6, vec![Hash::ZERO; 2]).is_some());
    assert!(Frontier::new(6, vec![Hash::ZERO; 3]).is_none());
}

#[test]
fn proofs_from_the_database_are_accepted_by_another_implementation() {
    let fixture = Fixture::of(1_100);
    let note = fixture.journal.checkpoint();
    let checkpoint = Checkpoint::open(&note, &fixture.journal.public_key()).unwrap();
    let stored = fixture.all();
    let mut frontier = Frontier::empty();
    let roots: Vec<_> = stored
        .iter()
        .map(|stored| {
            frontier.push(stored.hash, |_| ());
            frontier.root()
        })
        .collect();
    assert_eq!(checkpoint.root, roots[1_099]);

    for size in [1_u64, 2, 255, 256, 257, 512, 700, 1_023, 1_024, 1_100] {
        let new = root(roots[size as usize - 1], size);
        for sequence in [1, 2, 128, 256, 257, 511, 512, 513, 1_000, 1_025, 1_100] {
            let proof = fixture.journal.prove_inclusion(sequence, size);
            if sequence > size {
                assert!(matches!(proof, Err(ReadError::OutOfRange { .. })));
                continue;
            }
            let proof = InclusionProof::<Sha256>::from_bytes(bytes(&proof.unwrap()));
            new.verify_inclusion(&stored[sequence as usize - 1].bytes, sequence - 1, &proof).unwrap();
            let old = root(roots[sequence as usize - 1], sequence);
            let proof = fixture.journal.prove_consistency(sequence, size).unwrap();
            let proof = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
            new.verify_consistency(&old, &proof).unwrap();
        }
    }
    for (sequence, size) in [(0, 5), (1, 1_101), (1, u64::MAX), (u64::MAX, 5)] {
        assert!(matches!(fixture.journal.prove_inclusion(sequence, size), Err(ReadError::OutOfRange { .. })));
        assert!(matches!(fixture.journal.prove_consistency(sequence, size), Err(ReadError::OutOfRange { .. })));
    }
}
