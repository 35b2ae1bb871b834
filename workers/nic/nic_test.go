package nic

import "testing"

func TestInventoryOfThisMachine(t *testing.T) {
	inv, err := Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if inv.CPUs < 1 || inv.MemoryMiB < 64 || inv.Kernel == "" {
		t.Fatalf("inventory has gaps: %+v", inv)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"  Standard PC\n": "Standard PC", "a\x00\x1bü b": "a b", "0123456789": "01234567"} {
		if got := clean(in, 8); in == "0123456789" && got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
		if got := clean(in, 64); in != "0123456789" && got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("x\n", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1000 {
			return
		}
		if got := clean(s, limit); len(got) > limit {
			t.Fatalf("clean(%q, %d) has %d bytes", s, limit, len(got))
		}
	})
}
