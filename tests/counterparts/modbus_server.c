/* A Modbus TCP server of libmodbus on a free loopback port, which it prints first. Holding registers 0-199 begin with
 * their own address; so do input registers; coil and discrete input n is on if n is a multiple of 3. */
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

enum { COUNT = 200 };

int main(void)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(COUNT, COUNT, COUNT, COUNT);
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = modbus_tcp_listen(context, 1);

    if (map == NULL || listener < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return 1;
    for (int at = 0; at < COUNT; at++) {
        map->tab_registers[at] = map->tab_input_registers[at] = at;
        map->tab_bits[at] = map->tab_input_bits[at] = at % 3 == 0;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (modbus_tcp_accept(context, &listener) >= 0) {
        int received;
        while ((received = modbus_receive(context, request)) >= 0)
            modbus_reply(context, request, received, map);
    }
    return 0;
}
