package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/events/broker/certs"
	"cloudengine/workers/boot"
)

// TestTrustInBootConfig takes what boot.json says for true, also about the time: a machine's clock may stand still in another year.
func TestTrustInBootConfig(t *testing.T) {
	a, err := certs.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	served := time.Now().AddDate(3, 0, 0) // this machine's clock is three years behind
	option, err := trustIn(boot.Config{CA: string(a.Roots()), Time: served})
	if err != nil {
		t.Fatal(err)
	}
	var o nats.Options
	if err := option(&o); err != nil || !o.Secure || o.TLSConfig.RootCAs == nil {
		t.Fatalf("options %+v, %v", o, err)
	}
	if got := o.TLSConfig.Time(); !got.Equal(served) {
		t.Errorf("certificates are judged at %v, want %v", got, served)
	}
	if _, err := trustIn(boot.Config{CA: "rubbish"}); err == nil {
		t.Error("an authority that cannot be read was taken for none")
	}
}
