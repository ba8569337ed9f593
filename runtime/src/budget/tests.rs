//! Tests of the ledger, against a model and from many threads.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Account, Amounts, Exhausted, Reservation, window::Window};

fn fuel(fuel: u64) -> Amounts {
    Amounts { fuel, ..Amounts::default() }
}

fn calls(host_calls: u64) -> Amounts {
    Amounts { host_calls, ..Amounts::default() }
}

fn limit(fuel: u64) -> Amounts {
    Amounts { fuel, ..Amounts::UNLIMITED }
}

/// A clock that tests move.
#[derive(Clone)]
struct Clock(Arc<Mutex<Instant>>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn advance(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }

    fn account(&self, limit: Amounts, seconds: u64) -> Account {
        let clock = self.clone();
        Account::windowed_by(Window::by(Duration::from_secs(seconds), move || *clock.0.lock().unwrap()), limit)
    }
}

#[test]
fn the_names_are_the_fields_in_order() {
    let json = serde_json::to_value(Amounts::UNLIMITED).unwrap();
    assert_eq!(json.as_object().unwrap().len(), Amounts::names().len());
    for (place, name) in Amounts::names().into_iter().enumerate() {
        let one: Amounts = serde_json::from_value(serde_json::json!({ name: 1 })).unwrap();
        assert_eq!(one.to_array().iter().position(|amount| *amount == 1), Some(place), "{name}");
    }
    assert!(serde_json::from_value::<Amounts>(serde_json::json!({"tokens": 1})).is_err());
}

#[test]
fn what_is_committed_is_spent_at_each_level() {
    let tenant = Account::new("tenant", limit(100), None);
    let job = Account::new("job", limit(50), Some(tenant.clone()));
    let step = Account::new("step", limit(80), Some(job.clone()));
    let reservation = step.reserve(fuel(30)).unwrap();
    assert_eq!((step.left().fuel, job.left().fuel, tenant.left().fuel), (20, 20, 70));
    assert_eq!((step.spent().fuel, step.reserved().fuel), (0, 30));
    reservation.commit(fuel(10));
    for account in [&step, &job, &tenant] {
        assert_eq!((account.spent(), account.reserved()), (fuel(10), fuel(0)));
    }
    assert_eq!((step.left().fuel, step.limit().fuel), (40, 80));
}

#[test]
fn a_dropped_reservation_is_released() {
    let job = Account::new("job", limit(50), None);
    drop(job.reserve(fuel(50)).unwrap());
    assert_eq!((job.left().fuel, job.spent().fuel), (50, 0));
}

#[test]
fn exhaustion_names_the_account_and_the_dimension_and_reserves_nothing() {
    let tenant = Account::new("tenant", Amounts { fuel: 100, host_calls: 2, ..Amounts::UNLIMITED }, None);
    let step = Account::new("step", limit(50), Some(tenant.clone()));
    step.spend(fuel(20)).unwrap();
    let asked = step.reserve(fuel(31)).unwrap_err();
    let expected =
        Exhausted { account: "step".into(), dimension: "fuel", limit: 50, left: 30, asked: 31, resets_in: None };
    assert_eq!(asked, expected);
    assert_eq!(asked.to_string(), "the budget of `step` allows 50 fuel: 31 asked, 30 left");
    let asked = step.spend(Amounts { fuel: 5, host_calls: 3, ..Amounts::default() }).unwrap_err();
    assert_eq!((asked.account.as_str(), asked.dimension, asked.left), ("tenant", "host_calls", 2));
    for account in [&step, &tenant] {
        assert_eq!((account.spent(), account.reserved()), (fuel(20), fuel(0)));
    }
}

#[test]
fn what_was_used_beyond_the_reservation_counts() {
    let tenant = Account::new("tenant", limit(100), None);
    let step = Account::new("step", limit(50), Some(tenant.clone()));
    step.reserve(fuel(10)).unwrap().commit(fuel(120));
    assert_eq!((step.left().fuel, tenant.left().fuel), (0, 0));
    assert_eq!(tenant.spent(), fuel(120));
    assert!(step.spend(fuel(1)).is_err());
    assert!(step.spend(fuel(0)).is_ok() && step.spend(calls(1)).is_ok());
    step.reserve(fuel(0)).unwrap().commit(Amounts::UNLIMITED);
    step.reserve(fuel(0)).unwrap().commit(Amounts::UNLIMITED);
    assert_eq!((step.spent(), step.left()), (Amounts::UNLIMITED, Amounts::default()));
}

#[test]
fn the_largest_amounts_do_not_overflow() {
    let account = Account::new("tenant", Amounts::UNLIMITED, None);
    let all = account.reserve(Amounts::UNLIMITED).unwrap();
    assert!(account.reserve(fuel(1)).is_err());
    all.commit(fuel(u64::MAX - 1));
    assert!(account.reserve(fuel(2)).is_err());
    account.spend(fuel(1)).unwrap();
}

#[test]
fn a_new_window_begins_with_nothing_spent() {
    let clock = Clock::new();
    let tenant = clock.account(limit(100), 60).with_spent(fuel(30));
    let step = Account::new("step", limit(500), Some(tenant.clone()));
    assert_eq!(tenant.left().fuel, 70);
    step.spend(fuel(70)).unwrap();
    clock.advance(50);
    let asked = step.spend(fuel(1)).unwrap_err();
    assert_eq!((asked.account.as_str(), asked.resets_in), ("tenant", Some(Duration::from_secs(10))));
    assert!(asked.to_string().ends_with("1 asked, 0 left, and it resets in 10 s"), "{asked}");
    assert_eq!(step.spend(fuel(101)).unwrap_err().resets_in, None, "no window is long enough");
    clock.advance(10);
    assert_eq!((tenant.spent().fuel, step.spent().fuel), (0, 70));
    step.spend(fuel(100)).unwrap();
    // Windows that nobody saw pass, and the present one is where it would be.
    clock.advance(60 * 7 + 25);
    step.spend(fuel(100)).unwrap();
    assert_eq!(step.spend(fuel(1)).unwrap_err().resets_in, Some(Duration::from_secs(35)));
}

#[test]
fn a_reservation_outlives_its_window() {
    let clock = Clock::new();
    let tenant = clock.account(limit(100), 60);
    let reservation = tenant.reserve(fuel(80)).unwrap();
    clock.advance(60);
    assert_eq!(tenant.left().fuel, 20);
    reservation.commit(fuel(60));
    assert_eq!((tenant.spent().fuel, tenant.left().fuel), (60, 40));
}

#[test]
fn a_window_without_a_length_never_resets() {
    let clock = Clock::new();
    let tenant = clock.account(limit(1), 0);
    tenant.spend(fuel(1)).unwrap();
    clock.advance(1000);
    assert!(tenant.spend(fuel(1)).is_err());
}

/// One thing that happens to one of the accounts of a tree.
#[derive(Debug, Clone)]
enum Act {
    Reserve { account: usize, amounts: Amounts },
    Commit { which: usize, share: u64 },
    Release { which: usize },
    Spend { account: usize, amounts: Amounts },
}

const ACCOUNTS: usize = 8;

fn amounts() -> impl Strategy<Value = Amounts> {
    (0..40_u64, 0..4_u64).prop_map(|(fuel, host_calls)| Amounts { fuel, host_calls, ..Amounts::default() })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..ACCOUNTS, amounts()).prop_map(|(account, amounts)| Act::Reserve { account, amounts }),
        2 => (any::<usize>(), 0..=100_u64).prop_map(|(which, share)| Act::Commit { which, share }),
        1 => any::<usize>().prop_map(|which| Act::Release { which }),
        2 => (0..ACCOUNTS, amounts()).prop_map(|(account, amounts)| Act::Spend { account, amounts }),
    ];
    prop::collection::vec(act, 0..80)
}

/// For each account but the first, an earlier one around it, and a limit.
fn trees() -> impl Strategy<Value = Vec<(usize, Amounts)>> {
    let limit =
        (20..200_u64, 2..20_u64).prop_map(|(fuel, host_calls)| Amounts { fuel, host_calls, ..Amounts::UNLIMITED });
    prop::collection::vec((any::<usize>(), limit), ACCOUNTS)
        .prop_map(|tree| tree.into_iter().enumerate().map(|(i, (p, limit))| (p % i.max(1), limit)).collect())
}

fn open(tree: &[(usize, Amounts)]) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for (place, (parent, limit)) in tree.iter().enumerate() {
        let parent = (place > 0).then(|| accounts[*parent].clone());
        accounts.push(Account::new(format!("a{place}"), *limit, parent));
    }
    accounts
}

/// What an account must hold: what was done in it and in all accounts inside it.
fn total(tree: &[(usize, Amounts)], own: &[Amounts], account: usize) -> Amounts {
    (1..tree.len())
        .filter(|child| *child != account && tree[*child].0 == account)
        .fold(own[account], |sum, child| sum.saturating_add(total(tree, own, child)))
}

fn share(amounts: Amounts, percent: u64) -> Amounts {
    Amounts { fuel: amounts.fuel * percent / 100, host_calls: amounts.host_calls * percent / 100, ..amounts }
}

proptest! {
    #[test]
    fn a_tree_of_accounts_is_as_the_model_says(tree in trees(), acts in acts()) {
        let accounts = open(&tree);
        let mut spent = [Amounts::default(); ACCOUNTS];
        let mut reserved = [Amounts::default(); ACCOUNTS];
        let mut open: Vec<(usize, Amounts, Reservation)> = Vec::new();
        for act in acts {
            match act {
                Act::Reserve { account, amounts } => {
                    let fits = amounts.first_above(accounts[account].left()).is_none();
                    let made = accounts[account].reserve(amounts);
                    prop_assert_eq!(made.is_ok(), fits);
                    if let Ok(reservation) = made {
                        reserved[account] = reserved[account].saturating_add(amounts);
                        open.push((account, amounts, reservation));
                    }
                }
                Act::Spend { account, amounts } => {
                    if accounts[account].spend(amounts).is_ok() {
                        spent[account] = spent[account].saturating_add(amounts);
                    }
                }
                Act::Commit { which, share: percent } if !open.is_empty() => {
                    let (account, amounts, reservation) = open.swap_remove(which % open.len());
                    reservation.commit(share(amounts, percent));
                    reserved[account] = reserved[account].saturating_sub(amounts);
                    spent[account] = spent[account].saturating_add(share(amounts, percent));
                }
                Act::Release { which } if !open.is_empty() => {
                    let (account, amounts, _) = open.swap_remove(which % open.len());
                    reserved[account] = reserved[account].saturating_sub(amounts);
                }
                Act::Commit { .. } | Act::Release { .. } => {}
            }
            for (place, account) in accounts.iter().enumerate() {
                prop_assert_eq!(account.spent(), total(&tree, &spent, place));
                prop_assert_eq!(account.reserved(), total(&tree, &reserved, place));
                let held = account.spent().saturating_add(account.reserved());
                prop_assert_eq!(held.first_above(account.limit()), None);
            }
        }
    }

    #[test]
    fn a_sequence_of_uses_beyond_what_was_reserved_only_ever_refuses(uses in prop::collection::vec((0..9_u64, 0..30_u64), 0..30)) {
        let tenant = Account::new("tenant", limit(60), None);
        let step = Account::new("step", limit(40), Some(tenant.clone()));
        for (reserved, used) in uses {
            let before = step.spent().fuel;
            match step.reserve(fuel(reserved)) {
                Ok(reservation) => {
                    prop_assert!(before + reserved <= 40 || reserved == 0);
                    reservation.commit(fuel(used));
                    prop_assert_eq!(step.spent().fuel, before + used);
                }
                Err(asked) => prop_assert!(asked.left < reserved),
            }
        }
        prop_assert_eq!(step.spent(), tenant.spent());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn threads_never_take_more_than_there_is(tree in trees(), all in prop::collection::vec(acts(), 4)) {
        let accounts = open(&tree);
        let start = Barrier::new(all.len() + 1);
        let running = AtomicU64::new(all.len() as u64);
        let exceeded = thread::scope(|scope| {
            for acts in &all {
                scope.spawn(|| {
                    start.wait();
                    perform(&accounts, acts);
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            start.wait();
            let mut exceeded = Vec::new();
            while running.load(Ordering::Acquire) > 0 {
                // Spent and reserved are read one after the other: only what is spent is compared.
                exceeded.extend(accounts.iter().filter(|a| a.spent().first_above(a.limit()).is_some()).cloned());
            }
            exceeded
        });
        prop_assert!(exceeded.is_empty(), "{:?}", exceeded);
        for account in &accounts {
            prop_assert_eq!(account.reserved(), Amounts::default());
            prop_assert_eq!(account.spent().first_above(account.limit()), None);
        }
        for (place, (parent, _)) in tree.iter().enumerate().skip(1) {
            prop_assert_eq!(accounts[place].spent().first_above(accounts[*parent].spent()), None);
        }
    }
}

fn perform(accounts: &[Account], acts: &[Act]) {
    let mut open = Vec::new();
    for act in acts {
        match act {
            Act::Reserve { account, amounts } => {
                open.extend(accounts[*account].reserve(*amounts).ok().map(|reservation| (*amounts, reservation)));
            }
            Act::Spend { account, amounts } => drop(accounts[*account].spend(*amounts)),
            Act::Commit { which, share: percent } if !open.is_empty() => {
                let (amounts, reservation): (Amounts, Reservation) = open.swap_remove(which % open.len());
                reservation.commit(share(amounts, *percent));
            }
            Act::Release { which } if !open.is_empty() => drop(open.swap_remove(which % open.len())),
            Act::Commit { .. } | Act::Release { .. } => {}
        }
    }
}

#[test]
fn many_threads_spend_a_limit_to_the_last_unit() {
    let tenant = Account::new("tenant", limit(1000), None);
    let spent = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let step = Account::new("step", limit(900), Some(tenant.clone()));
                while step.spend(fuel(1)).is_ok() {
                    spent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((spent.into_inner(), tenant.spent().fuel, tenant.left().fuel), (1000, 1000, 0));
}
