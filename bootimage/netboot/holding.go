package netboot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"cloudengine/bootimage"
)

// A machine that nobody made known is told of (OnDiscovered). When it is in SetMachines as Holding, it is given an address that no other
// machine needs and boots the same image as the others, with a boot.json that holds neither token nor bus: its agent only asks /hold/<mac>
// until the machine was made known, and then boots anew.

// What GET /hold/<mac> answers, one word on a line.
const (
	HoldOn   = "hold"    // nobody has made the machine known: ask again
	HoldBoot = "boot"    // it is known: boot anew, from the network
	HoldNone = "unknown" // it is of no interest
)

// saidEvery is how often what a held machine says of itself is passed on.
const saidEvery = 10 * time.Minute

// scriptFacts lets iPXE tell what the firmware says of the machine, and asks again.
const scriptFacts = scriptStart + `chain --replace %[1]s/ipxe/%[2]s?said=1&serial=${serial:uristring}&uuid=${uuid}&manufacturer=${manufacturer:uristring}&product=${product:uristring} || chain --replace %[1]s/ipxe/%[2]s?said=1 || goto retry
`

func (s *Service) serveHold(w http.ResponseWriter, r *http.Request) {
	mac, err := parseMAC(r.PathValue("mac"))
	m, _, known := s.lookup(mac)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case err != nil || !known:
		fmt.Fprintln(w, HoldNone)
	case m.Holding:
		fmt.Fprintln(w, HoldOn)
	default:
		fmt.Fprintln(w, HoldBoot)
	}
}

// holdingScript is the script of a held machine, in two steps: first it says what it is. false: it may boot now.
func (s *Service) holdingScript(w http.ResponseWriter, r *http.Request, mac string) bool {
	q := r.URL.Query()
	if q.Get("said") == "" {
		fmt.Fprintf(w, scriptFacts+scriptRetry, s.opt.HTTP, mac)
		return true
	}
	s.said(r, mac, q)
	return false
}

// said passes on what a held machine says of itself: its own word, cut to printable bytes, and only from its own address.
func (s *Service) said(r *http.Request, mac string, q url.Values) {
	_, addr, _ := s.lookup(mac)
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if !s.opt.AnySource && (err != nil || from.Addr().Unmap() != addr) {
		return
	}
	now := s.opt.Now().UTC()
	if s.opt.OnDiscovered == nil || !s.facts.first(mac, now, saidEvery) {
		return
	}
	s.opt.OnDiscovered(Discovered{MAC: mac, Time: now, Serial: plain(q.Get("serial")), UUID: plain(q.Get("uuid")),
		Manufacturer: plain(q.Get("manufacturer")), Product: plain(q.Get("product"))})
}

// plain keeps printable ASCII, at most 64 bytes.
func plain(s string) string {
	out := make([]byte, 0, 64)
	for i := 0; i < len(s) && len(out) < 64; i++ {
		if s[i] >= ' ' && s[i] <= '~' {
			out = append(out, s[i])
		}
	}
	return string(out)
}

// sendHolding serves the initramfs of a held machine. Nothing in it is a secret, and nothing is to be reported.
func (s *Service) sendHolding(w http.ResponseWriter, m Machine, mac, path, version string) error {
	fail := func(err error) error {
		http.Error(w, "the boot files cannot be served now", http.StatusServiceUnavailable)
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(fmt.Errorf("open initramfs: %w", err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fail(fmt.Errorf("look at initramfs: %w", err))
	}
	config, err := json.Marshal(BootConfig{Name: m.Name, HTTP: s.opt.HTTP, Image: version, Time: s.opt.Now().UTC(), Holding: mac})
	if err != nil {
		return fail(fmt.Errorf("encode boot.json: %w", err))
	}
	body, size, err := bootimage.AppendFiles(f, st.Size(), bootimage.File{Path: bootimage.BootConfigPath, Data: config})
	if err != nil {
		return fail(err)
	}
	return s.copyInitrd(w, body, size, m, mac, version)
}
