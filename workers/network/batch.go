package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mdl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// batch is one transaction of nftables about one table. It is written here, and not by google/nftables, for rules that hand frames to another device:
// that library has no expression "fwd".
type batch struct {
	family   nftables.TableFamily
	table    string
	messages []mdl.Message
	err      error
}

func attribute(kind uint16, data []byte) mdl.Attribute { return mdl.Attribute{Type: kind, Data: data} }

func textOf(kind uint16, text string) mdl.Attribute { return attribute(kind, append([]byte(text), 0)) }

func number(kind uint16, n uint32) mdl.Attribute {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

// nested gives an attribute that has others in it.
func (b *batch) nested(kind uint16, in ...mdl.Attribute) mdl.Attribute {
	return attribute(unix.NLA_F_NESTED|kind, b.bytes(in))
}

func (b *batch) bytes(in []mdl.Attribute) []byte {
	data, err := mdl.MarshalAttributes(in)
	b.err = errors.Join(b.err, err)
	return data
}

func header(family nftables.TableFamily, resource uint16) []byte {
	return append([]byte{byte(family), unix.NFNETLINK_V0}, byte(resource>>8), byte(resource))
}

func (b *batch) add(kind int, flags mdl.HeaderFlags, in ...mdl.Attribute) {
	b.messages = append(b.messages, mdl.Message{
		Header: mdl.Header{Type: mdl.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: mdl.Request | mdl.Acknowledge | flags},
		Data:   append(header(b.family, 0), b.bytes(in)...),
	})
}

// renew makes the table anew, without anything in it.
func (b *batch) renew() {
	name := textOf(unix.NFTA_TABLE_NAME, b.table)
	b.add(unix.NFT_MSG_NEWTABLE, mdl.Create, name)
	b.add(unix.NFT_MSG_DELTABLE, 0, name)
	b.add(unix.NFT_MSG_NEWTABLE, mdl.Create, name)
}

// chain makes a chain that has a hook.
func (b *batch) chain(c *nftables.Chain) {
	hook := []mdl.Attribute{number(unix.NFTA_HOOK_HOOKNUM, uint32(*c.Hooknum)), number(unix.NFTA_HOOK_PRIORITY, uint32(*c.Priority))}
	if c.Device != "" {
		hook = append(hook, textOf(unix.NFTA_HOOK_DEV, c.Device))
	}
	b.add(unix.NFT_MSG_NEWCHAIN, mdl.Create, textOf(unix.NFTA_CHAIN_TABLE, b.table), textOf(unix.NFTA_CHAIN_NAME, c.Name),
		b.nested(unix.NFTA_CHAIN_HOOK, hook...), number(unix.NFTA_CHAIN_POLICY, uint32(*c.Policy)), textOf(unix.NFTA_CHAIN_TYPE, string(c.Type)))
}

// rule adds a rule at the end of a chain.
func (b *batch) rule(chain string, r rule, shaper int) {
	end, mark := []expr.Any{r.verdict()}, []byte(nil)
	if r.shaped {
		mark = shaperMark(shaper)
		end = []expr.Any{&expr.Immediate{Register: unix.NFT_REG_1, Data: binary.NativeEndian.AppendUint32(nil, uint32(shaper))}}
	}
	var list []mdl.Attribute
	for _, e := range append(r.expressions(), end...) {
		data, err := expr.Marshal(byte(b.family), e)
		b.err = errors.Join(b.err, err)
		list = append(list, attribute(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data))
	}
	if r.shaped {
		list = append(list, b.nested(unix.NFTA_LIST_ELEM, textOf(unix.NFTA_EXPR_NAME, "fwd"), b.nested(unix.NFTA_EXPR_DATA, number(unix.NFTA_FWD_SREG_DEV, unix.NFT_REG_1))))
	}
	b.add(unix.NFT_MSG_NEWRULE, mdl.Create|mdl.Append, textOf(unix.NFTA_RULE_TABLE, b.table), textOf(unix.NFTA_RULE_CHAIN, chain),
		b.nested(unix.NFTA_RULE_EXPRESSIONS, list...), attribute(unix.NFTA_RULE_USERDATA, append(r.sum(), mark...)))
}

// shaperMark is stored with a rule beside its sum: the device that it hands frames to.
func shaperMark(index int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(index)) }

// send carries all of it out in a namespace, or nothing.
func (b *batch) send(ns netns.NsHandle) error {
	if b.err != nil {
		return b.err
	}
	c, err := mdl.Dial(unix.NETLINK_NETFILTER, &mdl.Config{NetNS: int(ns)})
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
	}
	defer c.Close()
	edge := func(kind int) mdl.Message {
		return mdl.Message{Header: mdl.Header{Type: mdl.HeaderType(kind), Flags: mdl.Request}, Data: header(0, unix.NFNL_SUBSYS_NFTABLES)}
	}
	all := append([]mdl.Message{edge(unix.NFNL_MSG_BATCH_BEGIN)}, b.messages...)
	if _, err := c.SendMessages(append(all, edge(unix.NFNL_MSG_BATCH_END))); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	var errs []error
	for range b.messages {
		_, err := c.Receive()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOBUFS) { // it says no more than this one
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
