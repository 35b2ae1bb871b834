package main

import (
	"maps"

	"cloudengine/commands"
)

func init() {
	maps.Copy(rules, networkRules)
	maps.Copy(verbSays, map[string]string{
		"network.delete": "Ends a network without subnets and NICs.",
		"subnet.delete":  "Ends a subnet of which no address is given or reserved.",
		"subnet.reserve": "Keeps an address back: it is given only to a NIC that asks for it.",
		"subnet.release": "Ends the reservation of an address.",
		"nic.delete":     "Takes a NIC from its VM, which must not run. Its addresses are free.",
	})
}

// networkRules are those of networks, subnets and NICs.
var networkRules = map[string]rule{
	"commands.CreateNetwork.Name":    named("name, unique in its account"),
	"commands.CreateNetwork.MTU":     {says: "bytes of a packet of a guest, at least 1280; 0 or left out: as many as fit", min: "0", max: "65520"},
	"commands.NetworkRef.Network":    {says: "id of the network"},
	"commands.CreateSubnet.Name":     named("name, unique in its account"),
	"commands.CreateSubnet.CIDR":     {says: "IPv4 of 8 to 29 bits or IPv6 of 48 to 120, without bits behind the mask, in lower case", pattern: commands.CIDRForm},
	"commands.CreateSubnet.First":    {pattern: commands.AddressForm},
	"commands.CreateSubnet.Last":     {pattern: commands.AddressForm},
	"commands.SubnetRef.Subnet":      {says: "id of the subnet"},
	"commands.SubnetAddress.Subnet":  {says: "id of the subnet"},
	"commands.SubnetAddress.Address": {says: "IPv4 or IPv6, in lower case", pattern: commands.AddressForm},
	"commands.CreateNIC.VM":          {says: "id of the VM"},
	"commands.CreateNIC.Network":     {says: "id of the network"},
	"commands.CreateNIC.Slot":        {says: "where the guest sees it; left out: the first that is free", values: "events.SlotNIC0"},
	"commands.CreateNIC.MAC":         {says: "lower case with colons; left out: one of Xen's", pattern: macPattern},
	"commands.CreateNIC.Addresses":   {maxItems: count(2), pattern: commands.AddressForm},
	"commands.NICRef.NIC":            {says: "id of the NIC"},
	"commands.LimitNIC.NIC":          {says: "id of the NIC"},
	"commands.LimitNIC.InBPS":        {says: "bytes per second to the guest, at least 125000; 0: no limit", min: "0", max: "3125000000"},
	"commands.LimitNIC.OutBPS":       {says: "bytes per second from the guest, at least 125000; 0: no limit", min: "0", max: "3125000000"},
}
