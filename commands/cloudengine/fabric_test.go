package main

import (
	"strings"
	"testing"
)

// TestTheOtherCard: without a name the card is chosen only where there is one that can be meant.
func TestTheOtherCard(t *testing.T) {
	nic := func(mac string) map[string]any { return map[string]any{"mac": mac, "name": "eth"} }
	for _, c := range []struct {
		machine row
		want    string // card, or what the error says
		ok      bool
	}{
		{row{"name": "n", "macs": []any{"a"}, "inventory": map[string]any{"nics": []any{nic("a"), nic("b")}}}, "b", true},
		{row{"name": "n", "macs": []any{"a"}, "inventory": map[string]any{"nics": []any{nic("a"), nic("b"), nic("c")}}}, "(b, c)", false},
		{row{"name": "n", "macs": []any{"a"}, "inventory": map[string]any{"nics": []any{nic("a")}}}, "--mac", false},
		{row{"name": "n", "macs": []any{"a"}, "inventory": nil}, "--mac", false},
	} {
		got, err := otherCard(c.machine)
		if err != nil {
			got = err.Error()
		}
		if (err == nil) != c.ok || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, %v", c.machine, got, err)
		}
	}
}
