/* A Modbus server of libmodbus, on a free loopback port that it prints first, or as one unit on a serial line:
 *
 *     modbus_server            Modbus TCP, several units; a client that hangs up makes room for the next
 *     modbus_server PATH UNIT  RTU at 19,200 baud, no parity; prints 0 when it listens
 *
 * Registers and input registers 0-199 begin with 1,000 times their unit plus their own address (unit 1: 1,000 ...);
 * coil and discrete input n is on if n is a multiple of 3. A unit above 3 is none: over TCP it is answered with
 * exception 11, as a gateway does for a target that is silent. */
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { COUNT = 200, UNITS = 3 };

static modbus_mapping_t *made(int unit)
{
    modbus_mapping_t *map = modbus_mapping_new(COUNT, COUNT, COUNT, COUNT);

    if (map == NULL)
        exit(1);
    for (int at = 0; at < COUNT; at++) {
        map->tab_registers[at] = map->tab_input_registers[at] = 1000 * unit + at;
        map->tab_bits[at] = map->tab_input_bits[at] = at % 3 == 0;
    }
    return map;
}

static void say(int number)
{
    printf("%d\n", number);
    fflush(stdout);
}

static int serve_tcp(void)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *units[UNITS + 1] = {NULL, made(1), made(2), made(3)};
    uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = modbus_tcp_listen(context, 1);

    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return 1;
    say(ntohs(address.sin_port));
    while (modbus_tcp_accept(context, &listener) >= 0) {
        int received;
        while ((received = modbus_receive(context, request)) >= 0) {
            int unit = request[modbus_get_header_length(context) - 1];
            if (unit >= 1 && unit <= UNITS)
                modbus_reply(context, request, received, units[unit]);
            else
                modbus_reply_exception(context, request, MODBUS_EXCEPTION_GATEWAY_TARGET);
        }
        modbus_close(context);
    }
    return 0;
}

static int serve_rtu(const char *path, int unit)
{
    modbus_t *context = modbus_new_rtu(path, 19200, 'N', 8, 1);
    modbus_mapping_t *map = made(unit);
    uint8_t request[MODBUS_RTU_MAX_ADU_LENGTH];

    if (context == NULL || modbus_set_slave(context, unit) < 0 || modbus_connect(context) < 0)
        return 1;
    say(0);
    for (;;) {
        int received = modbus_receive(context, request); /* 0: a request for another unit */
        if (received > 0)
            modbus_reply(context, request, received, map);
        else if (received < 0 && errno < MODBUS_ENOBASE && errno != ETIMEDOUT)
            return 0; /* not noise: the line is gone */
    }
}

int main(int count, char **words)
{
    return count == 3 ? serve_rtu(words[1], atoi(words[2])) : serve_tcp();
}
