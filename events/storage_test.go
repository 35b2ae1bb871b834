package events

import "testing"

// These identities are on disks and in the caches of initiators: they never change.
func TestStorageIdentitiesArePermanent(t *testing.T) {
	for _, x := range []struct{ what, got, want string }{
		{"disk", string(DiskIDOf("WD-123")), "dfba123d-7d87-5735-a036-29e5361f8cba"},
		{"unit serial", UnitSerial(KindDisk, "d1"), "51ac972fe805c763e34ec071b"},
		{"NAA", NAA(UnitSerial(KindArray, "a1")), "6001405baaa1e27ca0fbac57618d355a"},
		{"initiator", InitiatorIQN("m1"), "iqn.2026-11.org.cloudengine:m1"},
		{"target", TargetIQN("m1"), "iqn.2026-11.org.cloudengine:m1:target"},
		{"SRP initiator", InitiatorSRP("m1"), "829938f67f7373a8"},
		{"SRP target", TargetSRP("m1"), "849e94f99f868239"},
	} {
		if x.got != x.want {
			t.Errorf("%s: %s, want %s", x.what, x.got, x.want)
		}
	}
	if n := len(NAA(UnitSerial(KindDisk, "x"))); n != 32 {
		t.Errorf("an NAA identifier has %d digits, want 32", n)
	}
}
