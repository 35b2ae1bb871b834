package power

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/clock"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"

	"cloudengine/events"
)

// mustReference starts the IPMI library's own server, which knows cipher suite 17; the simulator does not.
func mustReference(t testing.TB, suites ...types.CipherSuiteID) (Target, *mock.HAL) {
	t.Helper()
	hal := mock.New()
	b := bmc.New(bmc.DeviceInfo{DeviceID: 1, IPMIVersion: 0x20, ManufacturerID: 0x157, ProductID: 1, FirmwareMajor: 1}, [16]byte{1, 2, 3}, hal, bmc.WithClock(clock.Real))
	user, err := b.Users.Add(2, "operator")
	if err != nil {
		t.Fatal(err)
	}
	user.SetPassword([]byte(testPassword))
	user.Enabled = true
	user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelOperator, Enabled: true}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := server.NewServer(b, conn, server.WithCipherSuites(suites))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() { cancel(); srv.Close(); conn.Close(); wg.Wait() })
	return Target{Address: conn.LocalAddr().String(), User: "operator", Password: []byte(testPassword)}, hal
}

func TestReferenceServer(t *testing.T) {
	for name, suite := range map[string]types.CipherSuiteID{"suite_3": types.CipherSuiteID3, "suite_17": types.CipherSuiteID17} {
		t.Run(name, func(t *testing.T) {
			target, hal := mustReference(t, suite)
			chassis := hal.Chassis()
			is := func() bool {
				on, err := chassis.PowerState(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return on
			}
			set := func(on bool) {
				if err := chassis.SetPower(t.Context(), on); err != nil {
					t.Fatal(err)
				}
			}
			set(false)
			pxe := func() bool {
				f, err := chassis.GetBootFlags(t.Context())
				return err == nil && f.BootDeviceSelector == types.BootDeviceSelectorForcePXE && !f.Persist
			}
			bmcSuite(t, bench{IPMI{}.Connect, target, set, is, pxe})
		})
	}
}

// between is somebody on the wire: he sends the client what forge makes before each of the BMC's packets, and passes the rest on.
func between(t testing.TB, bmcAddress string, forge func(fromBMC []byte) [][]byte) string {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", bmcAddress)
	if err != nil {
		t.Fatal(err)
	}
	var who atomic.Pointer[net.Addr]
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			who.Store(&from)
			_, _ = back.Write(buf[:n])
		}
	})
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			for _, p := range append(forge(append([]byte(nil), buf[:n]...)), buf[:n]) {
				_, _ = front.WriteTo(p, *who.Load())
			}
		}
	})
	t.Cleanup(func() { front.Close(); back.Close(); wg.Wait() })
	return front.LocalAddr().String()
}

// offAnswers are answers to Get Chassis Status that say "off", one for each sequence number that a request can have.
func offAnswers() [][]byte {
	var out [][]byte
	for seq := range byte(64) {
		m := []byte{0x81, 0x01 << 2, 0, 0x20, seq << 2, 0x01, 0, 0, 0, 0}
		m[2] = -(m[0] + m[1])
		var sum byte
		for _, b := range m[3:] {
			sum -= b
		}
		m = append(m, sum)
		head15 := []byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(m))}
		out = append(out, append(head15, m...))
		for _, session := range [][]byte{{0, 0, 0, 0}, {0xa3, 0xa2, 0xa1, 0xa0}} { // the library's console id never changes
			head20 := append([]byte{6, 0, 0xff, 7, rmcpPlus, typeIPMI}, session...)
			head20 = append(head20, 0xff, 0, 0, 0, byte(len(m)), 0)
			out = append(out, append(head20, m...))
		}
	}
	return out
}

// Forged answers without the session's integrity code are lost, not believed: a machine that is on is never read as off. Behind a
// guard that lets all through, the library reads "off" here.
func TestForgedAnswersAreNotBelieved(t *testing.T) {
	for name, always := range map[string]bool{"in_the_session": false, "from_the_start": true} {
		t.Run(name, func(t *testing.T) { forgedAnswers(t, always) })
	}
}

func forgedAnswers(t *testing.T, always bool) {
	target, hal := mustReference(t, types.CipherSuiteID17)
	if err := hal.Chassis().SetPower(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	var captured [][]byte
	target.Address = between(t, target.Address, func(p []byte) [][]byte {
		inSession := p[atAuthType] == rmcpPlus && p[atType] == typeIPMI|flagEncrypted|flagAuthenticated
		if !inSession && !always {
			return nil
		}
		out := append(offAnswers(), captured...) // and everything that was said in sessions, once more
		out = append(out, p[:len(p)/2])
		if inSession {
			bent := append([]byte(nil), p...)
			bent[len(bent)-1] ^= 1
			out = append(out, bent)
			captured = append(captured, p)
		}
		return out
	})
	for range 5 {
		s, err := IPMI{Timeout: 5 * time.Second}.Connect(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if state, err := s.Status(t.Context()); err != nil || state != events.PowerIsOn {
				t.Fatalf("read %s, %v", state, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever answers with no protection at all instead of what was asked for gets no session.
func TestNoWeakerAlgorithms(t *testing.T) {
	target, _ := mustReference(t, types.CipherSuiteID3)
	target.Address = between(t, target.Address, func(p []byte) [][]byte {
		if len(p) < atPayload+36 || p[atAuthType] != rmcpPlus || p[atType] != typeOpenResponse {
			return nil
		}
		weak := append([]byte(nil), p...)
		weak[atPayload+16], weak[atPayload+24], weak[atPayload+32] = 0, 0, 0
		return [][]byte{weak}
	})
	s, err := IPMI{Suites: []uint8{3}}.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if g := s.(*session).guard; g.algorithms != [3]byte{1, 1, 1} || len(g.k1) == 0 {
		t.Fatalf("session with algorithms %v", g.algorithms)
	}
}

// Whatever bytes come, in whatever state: nothing panics, and once the key is there nothing is let in without its code.
func FuzzGuard(f *testing.F) {
	for _, p := range offAnswers()[:6] {
		f.Add(uint8(2), p)
	}
	f.Add(uint8(1), []byte{6, 0, 0xff, 7, rmcpPlus, typeOpenResponse, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 4})
	f.Add(uint8(2), append([]byte{6, 0, 0xff, 7, rmcpPlus, 0xc0, 0xa3, 0xa2, 0xa1, 0xa0, 1, 0, 0, 0, 32, 0}, make([]byte, 48)...))
	f.Fuzz(func(t *testing.T, stage uint8, p []byte) { // 0x11, 0x13, 0x15: the key exchange waits for that answer; 0 and 1: before it; others: after it
		g := &guard{user: "operator", password: testPassword, opened: stage > 0, expect: stage, algorithms: [3]byte{1, 1, 1}, session: [4]byte{0xa3, 0xa2, 0xa1, 0xa0}}
		if stage > 1 && stage < typeOpenResponse || stage > typeRAKP4 {
			g.consoleRand, g.bmcRand, g.role = make([]byte, 16), make([]byte, 16), 0x13
			if err := g.deriveKey(); err != nil {
				t.Fatal(err)
			}
		}
		err := g.admit(p)
		if len(g.k1) > 0 && err == nil && p[atType] != stage {
			t.Fatalf("let in without a code: %x", p)
		}
	})
}

// Whatever a BMC says instead of the right thing ends in an error, in time.
func FuzzConversation(f *testing.F) {
	f.Add([]byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{6})
	f.Add(offAnswers()[0], offAnswers()[1])
	f.Fuzz(func(t *testing.T, one, two []byte) {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, 4096)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(one[:min(len(one), 4096)], from)
				_, _ = c.WriteTo(two[:min(len(two), 4096)], from)
			}
		})
		defer wg.Wait()
		defer c.Close()
		if _, err := (IPMI{Timeout: 5 * time.Millisecond, Retries: -1}).Connect(t.Context(), Target{Address: c.LocalAddr().String(), User: "operator", Password: []byte(testPassword)}); err == nil {
			t.Fatal("logged in to nobody")
		} else if strings.Contains(fmt.Sprint(err), testPassword) {
			t.Fatalf("the password is in the error: %v", err)
		}
	})
}
