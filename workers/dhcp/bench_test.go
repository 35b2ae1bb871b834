package dhcp

import (
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

// BenchmarkAnswer4 compares an offer with the least that the library needs to make the same one: without headers, checks and a document.
func BenchmarkAnswer4(b *testing.B) {
	n, p := network(b, document()), packet4(b, one, dhcpv4.MessageTypeDiscover)
	offer, err := n.Answer4(one, p)
	if err != nil {
		b.Fatal(err)
	}
	d, _ := parse4(offer)
	said, err := dhcpv4.FromBytes(d.data)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := n.Answer4(one, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("echo", func(b *testing.B) {
		b.ReportAllocs()
		asked, _ := parse4(p)
		for b.Loop() {
			m, err := dhcpv4.FromBytes(asked.data)
			if err != nil {
				b.Fatal(err)
			}
			r, err := dhcpv4.NewReplyFromRequest(m)
			if err != nil {
				b.Fatal(err)
			}
			r.YourIPAddr, r.Options = said.YourIPAddr, said.Options
			r.ToBytes()
		}
	})
}

// BenchmarkAnswer6 does the same with an advertisement.
func BenchmarkAnswer6(b *testing.B) {
	n, p := network(b, document()), packet6(b, one, dhcpv6.MessageTypeSolicit, dhcpv6.WithIANA())
	reply, err := n.Answer6(link, one, p)
	if err != nil {
		b.Fatal(err)
	}
	d, _ := parse6(reply, protocolUDP)
	said, err := dhcpv6.MessageFromBytes(d.data)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := n.Answer6(link, one, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("echo", func(b *testing.B) {
		b.ReportAllocs()
		asked, _ := parse6(p, protocolUDP)
		for b.Loop() {
			m, err := dhcpv6.MessageFromBytes(asked.data)
			if err != nil {
				b.Fatal(err)
			}
			(&dhcpv6.Message{MessageType: said.MessageType, TransactionID: m.TransactionID, Options: said.Options}).ToBytes()
		}
	})
}
