#![allow(clippy::unwrap_used)]

use futures::FutureExt as _;

use super::*;

fn tenant(name: &str) -> Name {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_tenant_delays_another_by_the_places_that_it_has_and_not_by_its_line() {
    let line = Line::new(2, Duration::from_secs(60));
    let (many, few) = (tenant("many"), tenant("few"));
    let (first, second) = (line.place(&many).await.unwrap(), line.place(&many).await.unwrap());
    let mut waiting: Vec<_> = (2..LINE_MAX).map(|_| Box::pin(line.place(&many))).collect();
    assert!(waiting.iter_mut().all(|place| place.now_or_never().is_none()));
    assert!(matches!(line.place(&many).await, Err(CompileError::LineFull(LINE_MAX))));
    let mut other = Box::pin(line.place(&few));
    assert!((&mut other).now_or_never().is_none());
    drop(first);
    assert!((&mut waiting[0]).now_or_never().is_none(), "it was there first, and has had its turns");
    assert!(other.now_or_never().is_some_and(|place| place.is_ok()));
    drop((waiting, second));
    assert!(line.tenants().is_empty());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_patience() {
    let line = Line::new(1, Duration::from_millis(10));
    let _place = line.place(&tenant("one")).await.unwrap();
    for name in ["one", "two"] {
        assert!(matches!(line.place(&tenant(name)).await, Err(CompileError::LineTimeout(10))));
    }
    assert_eq!(line.tenants().len(), 1);
}
